import { createHash } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { Option, type Command } from 'commander'
import { decodeFirst } from 'cborg'
import { messageOf } from '../infra/service/errors.ts'
import { CONTENT_TYPES, type AcceptedCrash } from '../ingest/contract.ts'
import { decodeManifest, scanManifest, type Manifest } from '../ingest/manifest.ts'
import { isRefusal } from '../ingest/outcome.ts'
import { sandboxSettingsSchema } from './config.ts'
import type { Analysis } from './contract.ts'
import { explainText } from './explain-text.ts'
import { createProcessor } from './process.ts'
import { explainJsonSchema } from './report-schema.ts'
import { withLocalSandbox } from './sandbox/local.ts'
import { openSymbolFolder } from './symbols/folder.ts'

/**
 * `overrun explain FILE`: one crash from bytes to bucket on this machine, behind the same wall as in the worker; no server.
 * FILE is a dump, or a signed report as `overrun send` posts it (manifest, then dump), whose claims are used then.
 * `--json` is rust-minidump's report with ours beside it under `analysis` and `manifest`; report-schema.ts describes it.
 * Exit codes: 0, 2 usage, 21 when the dump could not be read (what could be is printed all the same).
 */
export function registerExplain(program: Command): void {
  program.command('explain')
    .description('Explains one crash dump: every stage\'s output, notes and reasons')
    .argument('[file]', 'a dump, or a signed report')
    .option('--symbols <dir>', 'folder with symbols: ELF files, Breakpad stores (NAME/DEBUGID/NAME.sym), *.sym and *.map')
    .addOption(new Option('--content-type <type>', 'what the dump is, where its bytes don\'t tell').choices([...CONTENT_TYPES]))
    .option('--json', 'one JSON object, whose schema --schema prints')
    .option('--schema', 'the JSON Schema of what --json prints, and nothing else')
    .action(async (file: string | undefined, options: ExplainOptions, command: Command) => {
      if (options.schema) process.stdout.write(`${JSON.stringify(explainJsonSchema(), null, 2)}\n`)
      else if (file === undefined) command.error("error: missing required argument 'file'", { exitCode: 2 })
      else process.exitCode = await explain(file, options)
    })
}

interface ExplainOptions { symbols?: string; contentType?: AcceptedCrash['contentType']; json?: true; schema?: true }

interface Input { bytes: Uint8Array; contentType: AcceptedCrash['contentType']; claims: AcceptedCrash['claims']; manifest: Explained | null }
interface Explained { alg: string; claims: AcceptedCrash['claims']; content_type: string; digest: string; digest_matches: boolean }

async function explain(file: string, options: ExplainOptions): Promise<number> {
  let input: Input
  try {
    if (options.symbols !== undefined) await stat(options.symbols)
    input = readInput(await readFile(file), options.contentType)
  } catch (error) {
    console.error(messageOf(error))
    return 21
  }
  const { inflateBytes } = sandboxSettingsSchema.parse({})
  const analysis = await withLocalSandbox(async ({ dumps, symbolFiles, cacheDirectory }) => {
    // Where children can't be started at all, that is said at once; the pool would go on trying.
    await dumps.ready()
    const symbols = await openSymbolFolder({ directory: options.symbols ?? null, cacheDirectory, pool: symbolFiles })
    const processDump = createProcessor({ pool: dumps, symbols, inflateBytes, metrics: null })
    return processDump({ contentType: input.contentType, claims: input.claims, annotations: {}, load: async () => input.bytes }).analysis
  })
  process.stdout.write(options.json ? `${JSON.stringify(explainJson(analysis, input.manifest))}\n` : textOf(analysis, input.manifest))
  return analysis.status === 'ok' || analysis.status === 'partial' ? 0 : 21
}

/** A signed report starts with CBOR tag 18; everything else is a dump, told by its first bytes where nobody says. */
function readInput(bytes: Uint8Array, said: AcceptedCrash['contentType'] | undefined): Input {
  if (bytes[0] !== 0xd2) return { bytes, contentType: said ?? guessContentType(bytes), claims: {}, manifest: null }
  const scan = scanManifest(bytes)
  if (isRefusal(scan)) throw new Error(`manifest: ${scan.slug}: ${scan.detail}`)
  if (scan.kind === 'incomplete') throw new Error(`manifest: the file ends inside it (${bytes.length} bytes)`)
  const manifest = decodeManifest(bytes.subarray(0, scan.end))
  if (isRefusal(manifest)) throw new Error(`manifest: ${manifest.slug}: ${manifest.detail}`)
  const [dump] = decodeFirst(bytes.subarray(scan.end)) as [unknown, Uint8Array]
  if (!(dump instanceof Uint8Array)) throw new Error('signed report: after the manifest comes no byte string')
  return { bytes: dump, contentType: said ?? manifest.contentType, claims: manifest.claims, manifest: describeManifest(manifest, dump) }
}

function describeManifest({ alg, claims, contentType, digest }: Manifest, dump: Uint8Array): Explained {
  const matches = createHash('sha256').update(dump).digest().equals(digest)
  return { alg, claims, content_type: contentType, digest: Buffer.from(digest).toString('hex'), digest_matches: matches }
}

function guessContentType(bytes: Uint8Array): AcceptedCrash['contentType'] {
  const head = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, 64)).toString('latin1')
  if (head.startsWith('MDMP')) return 'application/x-minidump'
  if (head.startsWith('\x7fELF')) return 'application/x-elf-core'
  if (/^ZE/.test(head)) return 'application/x-zephyr-coredump'
  return /^\s*\{/.test(head) ? 'application/vnd.overrun.js-stack+json' : 'text/plain'
}

const hex = (value: bigint | null) => (value === null ? null : `0x${value.toString(16).padStart(16, '0')}`)

/** explainSchema describes it. */
export function explainJson({ report, status, statusReason, kind, access, evidence, signature }: Analysis, manifest: Explained | null) {
  return {
    ...report,
    modules: report.modules.map((module) => ({
      ...module, missing_symbols: module.symbol_status === 'missing', loaded_symbols: module.symbol_status === 'found', corrupt_symbols: module.symbol_status === 'corrupt',
    })),
    analysis: {
      status, status_reason: statusReason, kind, access,
      evidence: { ...evidence, faultAddress: hex(evidence.faultAddress), pc: hex(evidence.pc), sp: hex(evidence.sp) },
      signature,
    },
    ...(manifest === null ? {} : { manifest }),
  }
}

function textOf(analysis: Analysis, manifest: Explained | null): string {
  if (manifest === null) return explainText(analysis)
  const claims = Object.entries(manifest.claims).map(([name, value]) => `  ${name}: ${JSON.stringify(value)}`)
  return [
    `Manifest (${manifest.alg}; the signature is checked by a server that knows the anchor)`,
    `  digest: ${manifest.digest}${manifest.digest_matches ? '' : ', and the dump\'s is another one: it was altered'}`,
    ...claims, '', explainText(analysis),
  ].join('\n')
}
