import { createPrivateKey } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { InvalidArgumentError, Option, type Command } from 'commander'
import { z } from 'zod'
import { messageOf } from '../../infra/service/errors.ts'
import { DEFAULT_DATA, DEFAULT_INGEST_URL, findIngest } from '../../infra/service/server-file.ts'
import { certificatesOf } from '../chain.ts'
import { CONTENT_TYPES, LAYERS, type AcceptedCrash, type Claims } from '../contract.ts'
import { decodeManifest } from '../manifest.ts'
import { isRefusal } from '../outcome.ts'
import { takeCounter } from './counter.ts'
import { postReport, type Posted } from './post.ts'
import { signReport } from './sign.ts'

/**
 * `overrun send DUMP`: signs a dump with a device's key and posts it. The id goes to stdout, progress to stderr.
 * Exit codes: 0 accepted or already there, 2 usage, 12 not authenticated or not allowed, 20 key or chain unusable,
 * 21 dump or claims unusable, 23 file not found, 30 refused by the server, 31 timeout, 32 network.
 */
type SendOptions = {
  device?: string; key?: string; cert?: string; url?: string; data: string; contentType?: AcceptedCrash['contentType']; output?: string
  retries: number; timeout: number; repeat?: boolean; json?: boolean
  bootcount?: number; seq?: number; uptime?: number; svn?: number; swname?: string; swversion?: string; hwmodel?: string; buildId?: string
  resetReason?: string; compartment?: string; layer?: (typeof LAYERS)[number]; process?: string; lastInputAge?: number; peer?: string; listenerPort?: number
}

export function registerSend(program: Command): void {
  program.command('send')
    .description('Sign a dump with a device key and send it')
    .argument('<dump>', 'the dump: minidump, ELF core, ESP-IDF or Zephyr coredump, or text')
    .option('--device <dir>', 'folder of the device with chain.pem and key.pem, as `overrun fleet init` makes it')
    .option('--cert <file>', 'certificate chain in PEM, leaf first, instead of --device')
    .option('--key <file>', 'private key in PEM, instead of --device')
    .option('--url <url>', `where ingest listens (default: OVERRUN_INGEST_URL, then the running server of --data, then ${DEFAULT_INGEST_URL})`)
    .option('--data <dir>', 'data folder of a local server', DEFAULT_DATA)
    .addOption(new Option('--content-type <type>', 'kind of dump (default: by its first bytes)').choices(CONTENT_TYPES))
    .option('--bootcount <n>', 'boot that crashed (default: that of the last report)', uint)
    .option('--seq <n>', "number of the report in that boot (default: the next)", uint)
    .option('--repeat', 'allow a bootcount and seq that were used before')
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
    .option('--retries <n>', 'attempts after the first', uint, 5)
    .option('--timeout <seconds>', 'for one attempt', uint, 60)
    .option('-o, --output <file>', 'write the signed body here instead of sending it')
    .option('--json', 'print the answer as one line of JSON')
    .action(async (dump: string, options: SendOptions) => {
      process.exitCode = await send(dump, options)
    })
}

async function send(dumpPath: string, options: SendOptions): Promise<number> {
  const keyPath = options.key ?? (options.device && join(options.device, 'key.pem'))
  const chainPath = options.cert ?? (options.device && join(options.device, 'chain.pem'))
  if (!keyPath || !chainPath) return fail(2, 'who sends? Give --device DIR, or --cert and --key')
  const files = read({ dump: dumpPath, key: keyPath, chain: chainPath })
  if (typeof files === 'string') return fail(23, files)

  const key = attempt(() => createPrivateKey(files.key))
  if (typeof key === 'string') return fail(20, `${keyPath}: ${key}`)
  const chain = certificatesOf(files.chain.toString('latin1'))
  if (chain.length === 0) return fail(20, `${chainPath}: no certificate in PEM`)
  const counter = await takeCounter(`${keyPath}.counter`, options, { repeat: options.repeat ?? false }).catch(messageOf)
  if (typeof counter === 'string') return fail(20, counter)
  if (counter === null) return fail(21, 'this bootcount and seq were used before; a report with them would be a conflict. Add --repeat to send it all the same')

  const contentType = options.contentType ?? contentTypeOf(files.dump)
  const signed = attempt(() => signReport({ dump: files.dump, contentType, claims: { ...claimsOf(options), ...counter }, key, chain }))
  if (typeof signed === 'string') return fail(20, signed)
  const checked = decodeManifest(signed.manifest)
  if (isRefusal(checked)) return fail(21, `${checked.detail} (${checked.slug})`)
  if (options.output !== undefined) {
    writeFileSync(options.output, signed.body)
    return 0
  }
  const url = new URL('/v1/crashes', findIngest(options)).href
  console.error(`send: ${contentType}, ${files.dump.length} bytes, boot ${counter.bootcount}, report ${counter.seq}, to ${url}`)
  const posted = await postReport({
    url, body: signed.body, retries: options.retries, timeoutMs: options.timeout * 1000,
    onRetry: (why, waitMs) => console.error(`send: ${why}; again in ${(waitMs / 1000).toFixed(1)} s`),
  })
  return report(posted, options.json ?? false)
}

function report(posted: Posted, json: boolean): number {
  if (posted.kind !== 'answered') return fail(posted.kind === 'timeout' ? 31 : 32, posted.reason)
  const { status, text } = posted
  const body = z.record(z.string(), z.unknown()).safeParse(attempt(() => JSON.parse(text) as unknown))
  const answer = body.success ? body.data : {}
  if (json) console.log(JSON.stringify({ http: status, ...answer }))
  if (status === 200 || status === 202) {
    if (!json) console.log(String(answer.id))
    console.error(`send: ${String(answer.status)}`)
    return 0
  }
  return fail(status === 401 || status === 403 ? 12 : 30, `answer ${status}: ${String(answer.title ?? text.slice(0, 200))}${answer.detail ? ` (${String(answer.detail)})` : ''}`)
}

function fail(code: number, why: string): number {
  console.error(`send: ${why}`)
  return code
}

function claimsOf({ uptime, lastInputAge, swname, swversion, hwmodel, buildId, svn, resetReason, compartment, layer, process, peer, listenerPort }: SendOptions): Claims {
  return { uptimeSeconds: uptime, lastInputAgeMs: lastInputAge, swname, swversion, hwmodel, buildId, svn, resetReason, compartment, layer, process, peer, listenerPort }
}

/** By the first bytes; the worker looks for itself what a dump is. */
function contentTypeOf(dump: Buffer): AcceptedCrash['contentType'] {
  const start = dump.toString('latin1', 0, 4)
  if (start === 'MDMP') return 'application/x-minidump'
  if (start === '\x7fELF') return 'application/x-elf-core'
  if (start.startsWith('#CD:') || start.startsWith('ZE')) return 'application/x-zephyr-coredump'
  return 'text/plain'
}

function read<const T extends Record<string, string>>(paths: T): { [K in keyof T]: Buffer } | string {
  return attempt(() => Object.fromEntries(Object.entries(paths).map(([name, path]) => [name, readFileSync(path)])) as { [K in keyof T]: Buffer })
}

/** The value, or why there is none. */
function attempt<T>(make: () => T): T | string {
  try {
    return make()
  } catch (error) {
    return messageOf(error)
  }
}

function uint(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new InvalidArgumentError('a whole number is expected')
  return Number(text)
}
