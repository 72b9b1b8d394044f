import { X509Certificate, createHash } from 'node:crypto'
import { mkdir, open, readFile, rename } from 'node:fs/promises'
import { dirname } from 'node:path'
import { z } from 'zod'
import type { Clock } from '../infra/service/clock.ts'
import { messageOf } from '../infra/service/errors.ts'
import type { Logger } from '../infra/service/logger.ts'
import { syncDirectory } from '../infra/service/sync-directory.ts'
import { CRL_IF_THERE, CRL_REQUIRED, DEFAULT_CHAIN_POLICY, type Anchor, type ChainPolicy } from './chain.ts'
import { KEY_PROTECTIONS } from './contract.ts'
import { crlSetOf, crlsOf, parseCrl, type Crl, type CrlSet } from './crl.ts'
import { isRefusal } from './outcome.ts'
import type { AnchorSource, DeviceStatus, IssuerStatus } from './verify.ts'

/**
 * Fleets, their anchors and settings, and the state of devices, as one immutable snapshot that is replaced whole.
 *
 * Promise: ingest works while the place that this is read from (ClickHouse) is away. The last good snapshot lies on
 * disk, written beside and renamed, and is what a restart begins with. A change is in effect within `intervalMs`, or at
 * once after refresh(). Until a first snapshot was there, by either way, `known()` is false and nobody may be refused
 * for being unknown: a device throws its dump away when it is told 401.
 */
export const DEVICE_STATES = ['active', 'disabled', 'revoked', 'pending'] as const
export const ISSUER_STATES = ['active', 'disabled'] as const

const DAY = 24 * 60 * 60 * 1000

/** A fleet's name is in keys and paths of ours, so it is short and plain. */
export const fleetName = z.string().regex(/^[a-z0-9][a-z0-9._-]{0,62}$/)

const gatewayName = z.string().regex(/^[a-z0-9][a-z0-9._-]{0,62}$/)

export const fleetSettingsSchema = z.object({
  /** What a device is that nobody has decided about: `pending` ones are heard, and count only when somebody admits them. */
  first_sight: z.enum(['active', 'pending']).default('active'),
  /** Compartments that face the network, for the strata of detection. */
  net_facing: z.array(z.string()).default([]),
  /** Whether unsigned multipart uploads are taken, and under which keys. A key is in every shipped client: it is no secret. */
  project_key_uploads: z.boolean().default(false),
  project_keys: z.array(z.string().min(8).max(128)).default([]),
  /** Gateways that vouch for the devices behind them (transport.ts): name to the SHA-256 of the token, hex. */
  gateways: z.record(gatewayName, z.string().regex(/^[0-9a-f]{64}$/)).default({}),
  /** How long after its end a leaf certificate is still accepted, and flagged; 0 refuses. */
  expired_leaf_days: z.number().min(0).max(3650).default(DEFAULT_CHAIN_POLICY.expiredLeafMs / DAY),
  /** Extended key usages (OIDs) that a leaf must have one of, or 'any'. */
  eku: z.union([z.literal('any'), z.array(z.string().regex(/^\d+(\.\d+)+$/)).min(1)]).default(typeof DEFAULT_CHAIN_POLICY.eku === 'string' ? 'any' : [...DEFAULT_CHAIN_POLICY.eku]),
  /** Whether each issuer on a path needs a revocation list that is current, or one is used where it is there. */
  crl: z.enum(['if-there', 'required']).default('if-there'),
})
export type FleetSettings = z.infer<typeof fleetSettingsSchema>

const anchorSchema = z.object({
  pem: z.string().max(16_384),
  key_protection: z.enum(KEY_PROTECTIONS).default('unknown'),
  scope: z.string().max(64).optional(),
})

export const snapshotSchema = z.object({
  v: z.literal(1),
  fleets: z.record(fleetName, z.object({
    settings: fleetSettingsSchema,
    /** By the SHA-256 of the certificate, hex. */
    anchors: z.record(z.string(), anchorSchema),
    devices: z.record(z.string(), z.object({ status: z.enum(DEVICE_STATES), reason: z.string().default('') })),
    /** By device: the number of the event that began the present life of its counters. */
    rebased: z.record(z.string(), z.int().positive()).default({}),
    /** By the issuer's name as in Verified: subject of the CA that signed the leaf, RFC 4514. */
    issuers: z.record(z.string(), z.object({ status: z.enum(ISSUER_STATES), reason: z.string().default('') })).default({}),
    /** Revocation lists, by the SHA-256 of the CA's public key, hex. */
    crls: z.record(z.string(), z.object({ pem: z.string() })).default({}),
  })),
})
/** What a source says; what it leaves out has its default. */
export type RegistrySnapshot = z.input<typeof snapshotSchema>
type Snapshot = z.output<typeof snapshotSchema>
export type FleetRecord = Snapshot['fleets'][string]

export interface Registry extends AnchorSource {
  crls(): CrlSet
  issuerStatus(fleet: string, issuer: string): IssuerStatus
  epochOf(fleet: string, deviceId: string): number
  /** The gateway whose token has this SHA-256 (hex), or null. */
  gatewayOf(tokenSha256: string): { fleet: string; name: string } | null
  /** Whether there has ever been a snapshot. */
  known(): boolean
  /** When the source was last read (`clock`), or null while only the copy on disk was. */
  readAt(): number | null
  /** The fleet that takes unsigned uploads under this key, or null. */
  fleetOfProjectKey(key: string): string | null
  /** Reads the source now; rejects when it is away, and the snapshot in use stays. */
  refresh(): Promise<void>
  start(): Promise<void>
  stop(): Promise<void>
}

export interface RegistryOptions {
  snapshotFile: string
  /** Absent: the file alone is the source, read again on refresh(). */
  load?: () => Promise<RegistrySnapshot>
  clock: Clock
  logger: Logger
  intervalMs: number
}

export function createRegistry({ snapshotFile, load, clock, logger, intervalMs }: RegistryOptions): Registry {
  let view = viewOf({ v: 1, fleets: {} }, logger)
  let text = ''
  let onDisk = ''
  let known = false
  let readAt: number | null = null
  let timer: NodeJS.Timeout | undefined
  let refreshing: Promise<void> | null = null
  let away = false

  function use(snapshot: Snapshot, json: string): void {
    if (json !== text) view = viewOf(snapshot, logger)
    text = json
    known = true
  }

  async function readDisk(): Promise<void> {
    const json = await readFile(snapshotFile, 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return null
      throw error
    })
    if (json === null) return
    const snapshot = snapshotSchema.safeParse(parseJson(json))
    if (snapshot.success) {
      onDisk = JSON.stringify(snapshot.data)
      use(snapshot.data, onDisk)
    } else {
      const reason = snapshot.error.issues[0]?.message
      logger.error({ slug: 'registry-snapshot-invalid', file: snapshotFile, reason }, 'snapshot on disk ignored')
    }
  }

  async function readSource(): Promise<void> {
    if (!load) return readDisk()
    const snapshot = snapshotSchema.parse(await load())
    const json = JSON.stringify(snapshot)
    // In effect first: a full disk must not keep a revoked device in.
    use(snapshot, json)
    readAt = clock.now()
    if (json !== onDisk) await writeDurably(snapshotFile, json)
    onDisk = json
  }

  /** One read at a time; a refresh() that comes while one runs wants what is newer, so it reads again. */
  async function refresh(): Promise<void> {
    while (refreshing) await refreshing.catch(() => {})
    refreshing = readSource()
    try {
      await refreshing
    } finally {
      refreshing = null
    }
  }

  async function poll(): Promise<void> {
    try {
      await refresh()
      if (away) logger.info({ slug: 'registry-back' }, 'registry source is back')
      away = false
    } catch (error) {
      if (!away) logger.warn({ slug: 'registry-away', reason: messageOf(error) }, 'registry source cannot be read; the last snapshot stays in use')
      away = true
    }
  }

  function pollLater(): void {
    timer = setTimeout(() => void poll().then(() => { if (timer) pollLater() }), intervalMs)
    timer.unref()
  }

  return {
    anchors: () => view.anchors,
    crls: () => view.crls,
    issuerStatus: (fleet, issuer) => view.issuers.get(fleet)?.get(issuer) ?? 'active',
    policy: (fleet) => view.policies.get(fleet) ?? DEFAULT_CHAIN_POLICY,
    deviceStatus: (fleet, deviceId) => view.devices.get(fleet)?.get(deviceId) ?? (view.admitting.has(fleet) ? 'pending' : 'unknown'),
    epochOf: (fleet, deviceId) => view.rebased.get(fleet)?.get(deviceId) ?? 0,
    gatewayOf: (tokenSha256) => view.gateways.get(tokenSha256) ?? null,
    fleetOfProjectKey: (key) => view.projectKeys.get(key) ?? null,
    known: () => known,
    readAt: () => readAt,
    refresh,
    async start() {
      await readDisk()
      await poll()
      pollLater()
    },
    async stop() {
      clearTimeout(timer)
      timer = undefined
      await refreshing?.catch(() => {})
    },
  }
}

interface View {
  anchors: readonly Anchor[]
  policies: ReadonlyMap<string, ChainPolicy>
  devices: ReadonlyMap<string, ReadonlyMap<string, DeviceStatus>>
  issuers: ReadonlyMap<string, ReadonlyMap<string, IssuerStatus>>
  crls: CrlSet
  projectKeys: ReadonlyMap<string, string>
  /** Fleets whose devices count only once they are admitted. */
  admitting: ReadonlySet<string>
  rebased: ReadonlyMap<string, ReadonlyMap<string, number>>
  gateways: ReadonlyMap<string, { fleet: string; name: string }>
}

function policyOf(settings: FleetSettings): ChainPolicy {
  return { expiredLeafMs: settings.expired_leaf_days * DAY, eku: settings.eku, crl: settings.crl === 'required' ? CRL_REQUIRED : CRL_IF_THERE }
}

function viewOf(snapshot: Snapshot, logger: Logger): View {
  const fleets = Object.entries(snapshot.fleets)
  return {
    anchors: fleets.flatMap(([fleet, { anchors }]) =>
      Object.entries(anchors).flatMap(([sha256, anchor]) => readAnchor(fleet, sha256, anchor, logger))),
    policies: new Map(fleets.map(([fleet, { settings }]) => [fleet, policyOf(settings)])),
    devices: new Map(fleets.map(([fleet, { devices }]) => [fleet, new Map(Object.entries(devices).map(([id, { status }]) => [id, status]))])),
    issuers: new Map(fleets.map(([fleet, { issuers }]) => [fleet, new Map(Object.entries(issuers).map(([name, { status }]) => [name, status]))])),
    crls: crlSetOf(fleets.flatMap(([fleet, { crls }]) => Object.entries(crls).flatMap(([name, { pem }]) => readCrl(fleet, name, pem, logger).map((crl) => ({ fleet, crl }))))),
    projectKeys: new Map(fleets.flatMap(([fleet, { settings }]) =>
      (settings.project_key_uploads ? settings.project_keys.map((key): [string, string] => [key, fleet]) : []))),
    admitting: new Set(fleets.flatMap(([fleet, { settings }]) => (settings.first_sight === 'pending' ? [fleet] : []))),
    rebased: new Map(fleets.map(([fleet, { rebased }]) => [fleet, new Map(Object.entries(rebased))])),
    gateways: new Map(fleets.flatMap(([fleet, { settings }]) => Object.entries(settings.gateways).map(([name, sha256]) => [sha256, { fleet, name }] as const))),
  }
}

/** An anchor that can't be read is left out, loudly: the others still hold. */
function readAnchor(fleet: string, sha256: string, anchor: FleetRecord['anchors'][string], logger: Logger): Anchor[] {
  try {
    const der = new X509Certificate(anchor.pem).raw
    const actual = createHash('sha256').update(der).digest('hex')
    if (actual !== sha256) throw new Error(`its SHA-256 is ${actual}`)
    return [{ der, sha256, keyProtection: anchor.key_protection, fleet, ...(anchor.scope === undefined ? {} : { scope: anchor.scope }) }]
  } catch (error) {
    logger.error({ slug: 'anchor-unreadable', fleet, anchor: sha256, reason: messageOf(error) }, 'anchor left out')
    return []
  }
}

/** A list that can't be read is left out, loudly; where the fleet requires lists, its devices are then told to come back later. */
function readCrl(fleet: string, name: string, pem: string, logger: Logger): Crl[] {
  const [der] = crlsOf(pem)
  const crl = der === undefined ? null : parseCrl(der)
  if (crl !== null && !isRefusal(crl)) return [crl]
  logger.error({ slug: 'crl-unreadable', fleet, crl: name, reason: crl?.detail ?? 'no list in PEM' }, 'revocation list left out')
  return []
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Written beside, synced, renamed, and the folder synced: a reader after a kill sees the old file or the new one, whole. */
async function writeDurably(file: string, text: string): Promise<void> {
  await mkdir(dirname(file), { recursive: true })
  const beside = `${file}.new`
  const handle = await open(beside, 'w', 0o600)
  try {
    await handle.writeFile(text)
    await handle.sync()
  } finally {
    await handle.close()
  }
  await rename(beside, file)
  await syncDirectory(dirname(file))
}
