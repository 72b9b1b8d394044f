import { createHash } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openFsBlobs } from '../../infra/blobs/fs.ts'
import type { Blobs } from '../../infra/blobs/blobs.ts'
import { connectClickHouse, type ClickHouseAddress } from '../../infra/clickhouse/client.ts'
import { openEmbeddedLog } from '../../infra/log/embedded.ts'
import { TOPIC_ACCEPTED, type Log, type LogBatch } from '../../infra/log/log.ts'
import { createManualClock } from '../../infra/service/clock.ts'
import { createMetrics } from '../../infra/service/metrics.ts'
import { encodeAcceptedCrash, type AcceptedCrash } from '../../ingest/contract.ts'
import { workerSettingsSchema, type WorkerSettings } from '../../symbolicate/config.ts'
import { createSymbolStore, type SymbolStore } from '../../symbolicate/symbols/store.ts'
import { createWorker, type Worker } from '../../symbolicate/worker.ts'
import { quietLogger, rowsOf, startTestClickHouse, until, type TestClickHouse } from '../infra/clickhouse-fixture.ts'

/** A log, blobs, the engine, a symbol store and a worker, all real, in one folder; the worker can be started anew. */
export interface World {
  log: Log
  blobs: Blobs
  /** Where the blobs lie. */
  blobDirectory: string
  symbols: SymbolStore
  worker: Worker
  clickhouse: TestClickHouse['clickhouse']
  engine: TestClickHouse['engine']
  metrics(): Promise<string>
  /** `alter` changes what the log hands over, to make something fail. */
  restartWorker(settings?: Partial<WorkerSettings>, alter?: (batch: LogBatch) => LogBatch): Promise<void>
  send(crash: AcceptedCrash): Promise<number>
  /** Waits until everything that the log holds has been written, slow dumps included. */
  settled(): Promise<void>
  stop(): Promise<void>
}

export const STORY = Date.UTC(2026, 5, 1)

/** `through`: what the worker is told ClickHouse's address is, to put something between the two. */
export async function createWorld(settings: Partial<WorkerSettings> = {}, { through }: { through?: (address: ClickHouseAddress) => Promise<ClickHouseAddress> } = {}): Promise<World> {
  const directory = await mkdtemp(join(tmpdir(), 'overrun-world-'))
  const { clickhouse, engine, stop: stopEngine } = await startTestClickHouse()
  const workers = through ? connectClickHouse(await through(engine.address), 'overrun-test') : clickhouse
  const log = await openEmbeddedLog({ directory: join(directory, 'log'), retention: { bytes: 2 ** 30, ageMs: 3_600_000 } })
  const blobs = await openFsBlobs({ directory: join(directory, 'blobs') })
  const clock = createManualClock(STORY + 60_000)
  let registry = createMetrics({ defaults: false })
  const symbols = createSymbolStore({ blobs, cacheDirectory: join(directory, 'symbols'), logger: quietLogger, metrics: registry })
  const make = (said: Partial<WorkerSettings>, alter: (batch: LogBatch) => LogBatch = (batch) => batch) => createWorker({
    settings: { ...workerSettingsSchema.parse({ batchWaitMs: 50 }), ...said },
    log: { ...log, consume: (options, handle) => log.consume(options, (batch) => handle(alter(batch))) }, blobs, symbols, clickhouse: workers, clock, logger: quietLogger, metrics: registry,
  })
  let appended = 0
  const world: World = {
    log, blobs, symbols, blobDirectory: join(directory, 'blobs'), clickhouse, engine,
    worker: make(settings),
    metrics: () => registry.metrics(),
    async restartWorker(said = settings, alter) {
      await world.worker.stop()
      registry = createMetrics({ defaults: false })
      world.worker = make(said, alter)
      await world.worker.start()
    },
    async send(crash) {
      const { offset } = await log.append(TOPIC_ACCEPTED, { key: crash.deviceId, value: encodeAcceptedCrash(crash) })
      appended = offset + 1
      return offset
    },
    settled: () => until(async () => {
      // The engine may be away: some tests kill it.
      const rows = await rowsOf<{ n: string }>(clickhouse, 'SELECT max(next_offset) AS n FROM positions').catch(() => [])
      return Number(rows[0]?.n ?? 0) >= appended
    }, `position ${appended}`),
    async stop() {
      await world.worker.stop()
      await symbols.stop()
      await log.close()
      if (workers !== clickhouse) await workers.close()
      await stopEngine()
      await rm(directory, { recursive: true, force: true })
    },
  }
  return world
}

let counter = 0

/** An accepted crash of its own: new counters unless told otherwise, the id as ingest would make it from them. */
export function accepted(dump: Uint8Array | string, said: Partial<Omit<AcceptedCrash, 'claims'>> & { claims?: AcceptedCrash['claims'] } = {}): AcceptedCrash {
  const bytes = typeof dump === 'string' ? Buffer.from(dump) : dump
  const digest = createHash('sha256').update(bytes).digest('hex')
  const deviceKeyId = said.deviceKeyId ?? createHash('sha256').update(said.deviceId ?? 'dev-1').digest('hex')
  const claims = { bootcount: 1, seq: counter++, size: bytes.length, swname: 'sensord', swversion: '1.0.0', ...said.claims }
  return {
    v: 1, fleet: 'demo', receivedAt: STORY, eventTime: STORY, authLevel: 'payload-signed', standing: 'counted', deviceId: 'dev-1', issuer: 'CN=Test',
    anchor: 'a'.repeat(64), keyProtection: 'software', flags: [], source: '192.0.2.0/24', contentType: 'text/plain', digest, size: bytes.length,
    annotations: {}, manifest: Buffer.from(`manifest ${claims.bootcount}/${claims.seq}`), dump: { bytes },
    id: createHash('sha256').update(JSON.stringify([deviceKeyId, claims.bootcount, claims.seq, digest])).digest('hex').slice(0, 32),
    ...said, deviceKeyId, claims,
  }
}

export const ASAN = `=================================================================
==1==ERROR: AddressSanitizer: heap-buffer-overflow on address 0x602000000011 at pc 0x55d0c1 bp 0x7ffd sp 0x7ffc
WRITE of size 1 at 0x602000000011 thread T0
    #0 0x55d0c0 in parse_header /src/httpd.c:214:7
    #1 0x55d1f0 in handle_request /src/httpd.c:300:3
    #2 0x55d2a0 in main /src/httpd.c:400:1
`
