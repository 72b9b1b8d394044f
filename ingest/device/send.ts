import { readFileSync, writeFileSync } from 'node:fs'
import { InvalidArgumentError, Option, type Command } from 'commander'
import { findIngest } from '../../infra/service/server-file.ts'
import { CONTENT_TYPES, LAYERS, type AcceptedCrash, type Claims } from '../contract.ts'
import { decodeManifest } from '../manifest.ts'
import { isRefusal } from '../outcome.ts'
import { answerOf, fail, tell } from './answer.ts'
import { isPassing, postReport, sendPatiently, type Patience, type Posted } from './post.ts'
import { signReport } from './sign.ts'
import { attempt, openSigner, signerOptions, uint, type SignerOptions } from './signer.ts'
import { uploadInPieces } from './upload.ts'

/**
 * `overrun send DUMP`: signs a dump with a device's key and sends it. With a fingerprint the crash is offered first, and
 * where the server knows it the dump stays here; with --resumable it goes in pieces. The id goes to stdout, progress to stderr.
 * Exit codes: 0 accepted or already there, 2 usage, 12 not authenticated or not allowed, 20 key or chain unusable,
 * 21 dump or claims unusable, 23 file not found, 30 refused by the server, 31 timeout, 32 network.
 */
type SendOptions = SignerOptions & {
  contentType?: AcceptedCrash['contentType']; output?: string; resumable?: boolean; piece: number; offer: boolean
  uptime?: number; svn?: number; swname?: string; swversion?: string; hwmodel?: string; buildId?: string; fingerprint?: string; encoding?: 'gzip' | 'zstd'
  resetReason?: string; compartment?: string; layer?: (typeof LAYERS)[number]; process?: string; lastInputAge?: number; peer?: string; listenerPort?: number
}

export function registerSend(program: Command): void {
  signerOptions(program.command('send'))
    .description('Sign a dump with a device key and send it')
    .argument('<dump>', 'the dump: minidump, ELF core, ESP-IDF or Zephyr coredump, or text')
    .addOption(new Option('--content-type <type>', 'kind of dump (default: by its first bytes)').choices(CONTENT_TYPES))
    .addOption(new Option('--encoding <encoding>', 'how the dump file is compressed').choices(['gzip', 'zstd']))
    .option('--fingerprint <hex>', 'what the device takes for the same crash; offers it first, so that a known crash needs no dump', fingerprint)
    .option('--no-offer', 'send the dump at once, in spite of a fingerprint')
    .option('--resumable', 'send in pieces that can be resumed, for slow and broken links and for dumps above 32 MiB')
    .option('--piece <bytes>', 'bytes of one piece', uint, 1024 * 1024)
    .option('--compartment <name>', 'process, task, partition or trusted app that failed')
    .addOption(new Option('--layer <layer>', 'how deep in the trusted computing base').choices(LAYERS))
    .option('--swname <name>', 'name of the firmware')
    .option('--swversion <version>', 'version of the firmware')
    .option('--hwmodel <model>', 'hardware model')
    .option('--build-id <hex>', 'build id of the program that crashed')
    .option('--svn <n>', 'security version', uint)
    .option('--uptime <seconds>', 'uptime at the crash', uint)
    .option('--reset-reason <text>', 'why the device restarted')
    .option('--process <name>', 'process that crashed')
    .option('--last-input-age <ms>', 'ms since the last outside input', uint)
    .option('--peer <address>', 'address of the last peer')
    .option('--listener-port <n>', 'port the peer was connected to', uint)
    .option('-o, --output <file>', 'write the signed body here instead of sending it')
    .action(async (dump: string, options: SendOptions) => {
      process.exitCode = await send(dump, options)
    })
}

async function send(dumpPath: string, options: SendOptions): Promise<number> {
  const dump = attempt(() => readFileSync(dumpPath))
  if (typeof dump === 'string') return fail('send', 23, dump)
  const signer = await openSigner(options)
  if ('exit' in signer) return fail('send', signer.exit, signer.reason)
  const { counter, ...by } = signer

  const contentType = options.contentType ?? contentTypeOf(dump)
  const signed = attempt(() => signReport({ ...by, dump, contentType, claims: { ...claimsOf(options), ...counter } }))
  if (typeof signed === 'string') return fail('send', 20, signed)
  const checked = decodeManifest(signed.manifest)
  if (isRefusal(checked)) return fail('send', 21, `${checked.detail} (${checked.slug})`)
  if (options.output !== undefined) {
    writeFileSync(options.output, signed.body)
    return 0
  }
  const base = findIngest(options)
  console.error(`send: ${contentType}, ${dump.length} bytes, boot ${counter.bootcount}, report ${counter.seq}, to ${base}`)
  return tell('send', await deliver({ ...signed, dump }, base, options), options.json ?? false)
}

async function deliver({ manifest, body, dump }: { manifest: Uint8Array; body: Uint8Array; dump: Uint8Array }, base: string, options: SendOptions): Promise<Posted> {
  const patience: Patience = {
    retries: options.retries, timeoutMs: options.timeout * 1000, onRetry: (why, waitMs) => console.error(`send: ${why}; again in ${(waitMs / 1000).toFixed(1)} s`),
  }
  const urlOf = (path: string) => new URL(path, base).href
  if (options.fingerprint !== undefined && options.offer) {
    const offered = await sendPatiently({ method: 'POST', url: urlOf('/v1/crashes/offer'), headers: { 'content-type': 'application/cose' }, body: manifest }, patience)
    const wanted = offered.kind === 'answered' && offered.status === 200 && answerOf(offered).status === 'send'
    if (!wanted && !isPassing(offered)) return offered
    console.error(`send: ${wanted ? 'the dump is wanted' : 'the offer was not answered, the dump is sent'}`)
  }
  if (options.resumable) return uploadInPieces({ url: urlOf('/v1/uploads'), manifest, dump, pieceBytes: Math.max(1, options.piece), patience })
  return postReport({ url: urlOf('/v1/crashes'), body, ...patience })
}

function claimsOf({ uptime, lastInputAge, swname, swversion, hwmodel, buildId, svn, fingerprint, encoding, resetReason, compartment, layer, process, peer, listenerPort }: SendOptions): Claims {
  return { uptimeSeconds: uptime, lastInputAgeMs: lastInputAge, swname, swversion, hwmodel, buildId, svn, fingerprint, encoding, resetReason, compartment, layer, process, peer, listenerPort }
}

/** By the first bytes; the worker looks for itself what a dump is. */
function contentTypeOf(dump: Buffer): AcceptedCrash['contentType'] {
  const start = dump.toString('latin1', 0, 4)
  if (start === 'MDMP') return 'application/x-minidump'
  if (start === '\x7fELF') return 'application/x-elf-core'
  if (start.startsWith('#CD:') || start.startsWith('ZE')) return 'application/x-zephyr-coredump'
  return 'text/plain'
}

function fingerprint(text: string): string {
  if (!/^(?:[0-9a-f]{2}){1,32}$/i.test(text)) throw new InvalidArgumentError('1 to 32 bytes in hexadecimal are expected')
  return text.toLowerCase()
}
