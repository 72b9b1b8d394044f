import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createFleet } from '../../ingest/device/fleet.ts'
import { signReport } from '../../ingest/device/sign.ts'
import { needs } from '../system/java.ts'
import { startKafka, type KafkaServer } from '../system/kafka.ts'
import { startIngestProcess, type IngestProcess } from './ingest-process.ts'

/** A log that takes nothing: ingest says so to everybody, holds no more than it may, and goes on when the log does. */
const MIB = 1024 * 1024
const LANES = 64
const REQUESTS = process.env.OVERRUN_LONG === '1' ? 4_000 : 400
const fleet = createFleet({ devices: 1, now: Date.now() })
const { key, chain } = fleet.devices[0]!
let seq = 0
const bodyOf = () => Buffer.from(signReport({ dump: randomBytes(240 * 1024), contentType: 'text/plain', claims: { bootcount: 1, seq: seq++, swname: 'sensord' }, key, chain }).body)

const { skip, note } = needs('kafka')
describe.skipIf(skip)(`ingest while Kafka is frozen${note}`, () => {
  let kafka: KafkaServer
  let ingest: IngestProcess
  let data: string
  beforeAll(async () => {
    data = await mkdtemp(join(tmpdir(), 'overrun-overload-'))
    kafka = await startKafka()
    ingest = await startIngestProcess(fleet, {
      data,
      log: { maxBytesInFlight: 16 * MIB, kafka: { brokers: kafka.brokers, allowSingleBroker: true, partitions: 3, sendTimeoutMs: 2_000 } },
      ingest: { limits: { bytesInFlight: 32 * MIB } },
    })
  })
  afterAll(async () => {
    kafka?.signal('SIGCONT')
    await ingest?.kill()
    await kafka?.stop()
    await rm(data, { recursive: true, force: true })
  })

  // Longer than a send of kafkajs hangs when a broker is gone.
  const post = (body: Buffer<ArrayBuffer>) => fetch(`${ingest.url}/v1/crashes`, { method: 'POST', headers: { 'content-type': 'application/cbor-seq' }, body, signal: AbortSignal.timeout(17_000) })

  test('every report is told 503 and when to come again, memory stays bounded, and the same report is taken later', async () => {
    for (let i = 0; i < 20; i++) expect((await post(bodyOf())).status).toBe(202)
    const { resident: quiet } = ingest.memory()
    kafka.signal('SIGSTOP')
    const bodies = Array.from({ length: LANES }, bodyOf)
    const answers: Record<string, number> = {}
    let left = REQUESTS
    await Promise.all(bodies.map(async (body) => {
      while (left-- > 0) {
        const response = await post(body).catch((error: Error) => error)
        // A refused sender may see its connection end before it has read the answer.
        const answer = response instanceof Error ? (response.name === 'TimeoutError' ? 'late' : 'cut') : `${response.status} ${response.headers.get('retry-after')}`
        answers[answer] = (answers[answer] ?? 0) + 1
      }
    }))
    const { peak } = ingest.memory()
    console.log(`${REQUESTS} reports of 240 KiB over ${LANES} connections to a frozen log: quiet ${Math.round(quiet / MIB)} MiB, peak ${Math.round(peak / MIB)} MiB, answers ${JSON.stringify(answers)}`)
    expect(Object.keys(answers).filter((answer) => answer !== 'cut')).toEqual(['503 5'])
    expect(peak - quiet).toBeLessThan(192 * MIB)

    kafka.signal('SIGCONT')
    for (const body of bodies.slice(0, 5)) {
      let status = 0
      while (status !== 202 && status !== 200) status = (await post(body)).status
    }
  })
})
