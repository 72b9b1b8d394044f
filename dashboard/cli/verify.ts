import { hash } from 'node:crypto'
import type { Command } from 'commander'
import { z } from 'zod'
import { certificatesOf, DEFAULT_CHAIN_POLICY, lintAnchor, type Anchor, type ChainPolicy } from '../../ingest/chain.ts'
import { KEY_PROTECTIONS } from '../../ingest/contract.ts'
import { crashId } from '../../ingest/crash-id.ts'
import { decodeManifest } from '../../ingest/manifest.ts'
import { isRefusal } from '../../ingest/outcome.ts'
import { recheck, type KeptReport } from '../../ingest/recheck.ts'
import type { Verified } from '../../ingest/verify.ts'
import { crashDetailSchema, deviceDetailSchema, eventsPageSchema } from '../api/contract.ts'
import { fleetSchema } from '../api/fleet-contract.ts'
import { CommandError, connectServer, ending, readInput, serverOptions, type ServerClient, type ServerOptions } from './server-client.ts'

/**
 * `overrun verify`: is this crash what a device signed? The signature, the digest and the path to the anchor are checked
 * here, in this process. From the server come bytes, and what nobody signed: when it was received, and who trusted the
 * anchor; both are said to be its word. What it says and the manifest could contradict (id, device, digest) must agree.
 *
 *   overrun verify CRASH_ID [--anchor FILE]                              the server's bytes, under its fleet's anchor or yours
 *   overrun verify --manifest FILE --dump FILE --anchor FILE [--at TIME] no server at all
 *
 * Exit codes: 0 good, 21 not good or not readable, and those of server-client.ts.
 */
interface VerifyOptions extends ServerOptions { manifest?: string; dump?: string; anchor?: string[]; chain?: string; at?: string; fleet?: string; json?: boolean }

/** An anchor, and in whose words it is trusted. */
interface Trusted { anchor: Anchor; subject: string; by: string }

interface Case {
  id: string | null
  kept: KeptReport
  trusted: Trusted[]
  policy: ChainPolicy
  fleet: string | null
  /** When the certificates have to have been valid, and whose word that is. */
  at: number
  timeIs: string
  /** The server's own record, to be compared with what was signed. */
  record: z.output<typeof recordSchema> | null
}

const recordSchema = crashDetailSchema.pick({
  id: true, fleet: true, received_at: true, device: true, device_key: true, anchor: true, digest: true, standing: true, flags: true, manifest_length: true, dump_length: true, size: true, device_status: true,
})
const addedSchema = z.object({ pem: z.string(), key_protection: z.enum(KEY_PROTECTIONS), scope: z.string().optional() })
const DAY = 86_400_000
/** Manifests of the same key that are looked into for a chain. */
const CHAIN_TRIES = 16

export function registerVerify(program: Command): void {
  serverOptions(program.command('verify'))
    .description('Check a crash again: who signed what, when it was received, under which anchor')
    .argument('[crash]', 'id of a crash that the server has')
    .option('--manifest <file>', 'instead of an id: the manifest, as the server gives it or the device sent it')
    .option('--dump <file>', 'the dump, as it was sent')
    .option('--anchor <file...>', 'CA certificates to trust (PEM), instead of the fleet\'s')
    .option('--chain <file>', 'certificates of the device (PEM, leaf first), where the manifest names them by hash only')
    .option('--at <time>', 'when the certificates have to have been valid (ISO 8601); by default the time of receipt, or now')
    .option('--fleet <name>', 'the fleet of the crash; without a server, prints the id that the crash has there')
    .option('--json', 'print one line of JSON')
    .action(ending('verify', async (id: string | undefined, options: VerifyOptions) => {
      const asked = id === undefined ? caseOfFiles(options) : await caseOfServer(id, options)
      const verified = await recheck(asked.kept, { anchors: asked.trusted.map(({ anchor }) => anchor), policy: asked.policy, at: asked.at })
      const wrong = isRefusal(verified) ? verified : contradiction(verified, asked)
      if (wrong) {
        if (options.json) console.log(JSON.stringify({ good: false, id: asked.id, slug: wrong.slug, reason: wrong.detail }))
        else console.error(printable(`NOT GOOD ${asked.id ?? options.manifest}: ${wrong.slug}: ${wrong.detail}`))
        process.exitCode = 21
        return
      }
      const said = sayingOf(verified as Verified, asked)
      console.log(options.json ? JSON.stringify(said) : inWords(said))
    }))
}

function caseOfFiles({ manifest, dump, anchor, chain, at, fleet }: VerifyOptions): Case {
  if (manifest === undefined || dump === undefined || anchor === undefined) throw new CommandError(2, 'give the id of a crash, or --manifest, --dump and --anchor')
  return {
    id: null, kept: { manifest: readInput(manifest), dump: readInput(dump), ...chainOf(chain) }, trusted: anchor.map((file) => trustedFile(file, fleet ?? '')),
    policy: DEFAULT_CHAIN_POLICY, fleet: fleet ?? null, at: at === undefined ? Date.now() : timeOf(at), timeIs: at === undefined ? 'now' : 'as you gave it', record: null,
  }
}

async function caseOfServer(id: string, options: VerifyOptions): Promise<Case> {
  if (!/^[0-9a-f]{32}$/.test(id)) throw new CommandError(21, `${id} is not the id of a crash: 32 hex digits are expected`)
  const server = connectServer(options)
  const inFleet = options.fleet === undefined ? '' : `?fleet=${encodeURIComponent(options.fleet)}`
  const record = await server.get(`/crashes/${id}${inFleet}`, recordSchema)
  if (record.manifest_length === 0) throw new CommandError(21, `crash ${id} was not signed: there is nothing to verify`)
  const its = `?fleet=${encodeURIComponent(record.fleet)}`
  const manifest = await server.bytes(`/crashes/${id}/manifest${its}`)
  // A crash that only named another one has no dump here, whatever was then found of its counters or its device.
  const stayed = record.standing !== 'counted' && record.dump_length === 0 && record.size > 0
  const dump = stayed ? null : await server.bytes(`/crashes/${id}/dump${its}`)
  const { settings } = await server.get(`/fleets/${encodeURIComponent(record.fleet)}`, fleetSchema)
  return {
    id, fleet: record.fleet, record,
    kept: { manifest, dump, ...(chainOf(options.chain) ?? await chainOfServer(server, manifest, record)) },
    trusted: options.anchor?.map((file) => trustedFile(file, record.fleet)) ?? [await trustedByFleet(server, record)],
    policy: {
      expiredLeafMs: settings.expired_leaf_days === undefined ? DEFAULT_CHAIN_POLICY.expiredLeafMs : settings.expired_leaf_days * DAY,
      eku: settings.eku ?? DEFAULT_CHAIN_POLICY.eku,
    },
    at: options.at === undefined ? Date.parse(record.received_at) : timeOf(options.at), timeIs: options.at === undefined ? "the server's word" : 'as you gave it',
  }
}

function trustedFile(file: string, fleet: string): Trusted {
  const linted = lintAnchor(readInput(file).toString('utf8'))
  if (isRefusal(linted)) throw new CommandError(21, `${file}: ${linted.detail}`)
  return { anchor: { ...linted.anchor, keyProtection: 'unknown', fleet }, subject: linted.subject, by: `you (${file})` }
}

/** The anchor that the server names, from the audit log, so that one that was removed since then still tells whom it was trusted by. */
async function trustedByFleet(server: ServerClient, { fleet, anchor: sha256 }: z.output<typeof recordSchema>): Promise<Trusted> {
  const { items } = await server.get(`/events?fleet=${encodeURIComponent(fleet)}&subject=anchor:${sha256}&limit=200`, eventsPageSchema)
  const added = items.find(({ kind }) => kind === 'fleet.anchor-added')
  const removed = items[0]?.kind === 'fleet.anchor-removed' ? `, removed ${items[0].at}` : ''
  const body = addedSchema.safeParse(added?.body).data
  if (added === undefined || body === undefined) throw new CommandError(21, `the server does not know the anchor ${sha256} any more: give it with --anchor`)
  const linted = lintAnchor(body.pem)
  if (isRefusal(linted)) throw new CommandError(21, `anchor ${sha256}: ${linted.detail}`)
  const { key_protection: keyProtection, scope } = body
  return {
    anchor: { ...linted.anchor, keyProtection, fleet, ...(scope === undefined ? {} : { scope }) }, subject: linted.subject,
    by: `fleet ${fleet} (added ${added.at} by ${added.actor}${removed})`,
  }
}

function chainOf(file: string | undefined): { chain: Uint8Array[] } | undefined {
  return file === undefined ? undefined : { chain: certificatesOf(readInput(file).toString('utf8')) }
}

/** A manifest that names its leaf by hash follows one of the same key that carried the chain: the nearest ones are looked into. */
async function chainOfServer(server: ServerClient, item: Uint8Array, record: z.output<typeof recordSchema>): Promise<{ chain?: Uint8Array[] }> {
  const manifest = decodeManifest(item)
  if (isRefusal(manifest) || !('x5t' in manifest.chain)) return {}
  const leaf = Buffer.from(manifest.chain.x5t).toString('hex')
  const its = `?fleet=${encodeURIComponent(record.fleet)}`
  const { timeline } = await server.get(`/devices/${encodeURIComponent(record.device)}${its}`, deviceDetailSchema.pick({ timeline: true }))
  const distance = ({ received_at }: { received_at: string }) => Math.abs(Date.parse(received_at) - Date.parse(record.received_at))
  const near = timeline.filter(({ device_key, id }) => device_key === record.device_key && id !== record.id).sort((a, b) => distance(a) - distance(b))
  for (const { id } of near.slice(0, CHAIN_TRIES)) {
    const other = decodeManifest(await server.bytes(`/crashes/${id}/manifest${its}`))
    if (!isRefusal(other) && 'x5chain' in other.chain && hash('sha256', other.chain.x5chain[0]!, 'hex') === leaf) return { chain: other.chain.x5chain }
  }
  throw new CommandError(21, `crash ${record.id} names its certificate by hash only, and no manifest near it carries the certificate: give it with --chain`)
}

function timeOf(text: string): number {
  const at = Date.parse(text)
  if (Number.isNaN(at)) throw new CommandError(2, `${text} is not a time: ISO 8601 is expected, such as 2026-05-01T12:00:00Z`)
  return at
}

const idIn = (fleet: string, { deviceKeyId, claims, manifest }: Verified): string =>
  crashId({ fleet, deviceKeyId, bootcount: claims.bootcount ?? 0, seq: claims.seq ?? 0, digest: digestOf(manifest) })
const digestOf = ({ digest }: Verified['manifest']): string => Buffer.from(digest).toString('hex')

/** The server's record has to be about the crash that was signed. */
function contradiction(verified: Verified, { record, trusted }: Case): { slug: string; detail: string } | undefined {
  if (record === null) return undefined
  const given = trusted.some(({ by }) => by.startsWith('you '))
  const signed = { id: idIn(record.fleet, verified), device_key: verified.deviceKeyId, digest: digestOf(verified.manifest), ...(given ? {} : { device: verified.deviceId, anchor: verified.anchor }) }
  for (const [name, value] of Object.entries(signed)) {
    const told = record[name as keyof typeof signed]
    if (told !== value) return { slug: 'record-contradicts', detail: `the server says ${name} ${told}, what was signed says ${value}` }
  }
  return undefined
}

function sayingOf(verified: Verified, { id, fleet, kept, trusted, at, timeIs, record }: Case) {
  const { manifest, claims } = verified
  const { anchor, subject, by } = trusted.find(({ anchor: { sha256 } }) => sha256 === verified.anchor)!
  return {
    good: true, id: id ?? (fleet === null ? null : idIn(fleet, verified)), fleet,
    device: verified.deviceId, device_key: verified.deviceKeyId, issuer: verified.issuer, key_protection: verified.keyProtection,
    anchor: { sha256: anchor.sha256, subject, trusted_by: by },
    algorithm: manifest.alg, content_type: manifest.contentType, size: claims.size, digest: digestOf(manifest), dump_checked: kept.dump !== null, claims,
    received_at: record?.received_at ?? null, certificates_valid_at: new Date(at).toISOString(), time_is: timeIs,
    flags: [...new Set([...verified.flags, ...record?.flags ?? []])], standing: record?.standing ?? null, device_status: record?.device_status ?? null,
  }
}

function inWords(said: ReturnType<typeof sayingOf>): string {
  const { bootcount, seq, size: _, ...claims } = said.claims
  const lines: [string, string | null][] = [
    ['signed by', `device ${said.device}, key ${said.device_key} (kept in ${said.key_protection})`],
    ['issued by', said.issuer],
    ['anchor', `${said.anchor.subject}, SHA-256 ${said.anchor.sha256}`],
    ['trusted by', said.anchor.trusted_by],
    ['what', `${said.size} bytes of ${said.content_type}, SHA-256 ${said.digest}, ${said.algorithm}`],
    ['dump', said.dump_checked ? 'is what was signed' : 'stayed on the device: only its digest is signed here'],
    ['counters', `boot ${bootcount}, report ${seq}`],
    ['claims', Object.entries(claims).map(([name, value]) => `${name} ${JSON.stringify(value)}`).join(', ') || 'no others'],
    ['received', said.received_at && `${said.received_at} (the server's word)`],
    ['certificates', `valid at ${said.certificates_valid_at} (${said.time_is})`],
    ['standing', said.standing && `${said.standing}; the device is ${said.device_status} today`],
    ['marks', said.flags.join(', ') || null],
  ]
  return [`GOOD ${said.id ?? ''}`.trim(), ...lines.flatMap(([name, value]) => (value === null ? [] : [`  ${name.padEnd(13)}${value}`]))].map(printable).join('\n')
}

/** No control characters, no direction overrides: a certificate must not redraw somebody's terminal. */
const printable = (line: string): string => line.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, '\ufffd')
