import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ListMultipartUploadsCommand, S3Client } from '@aws-sdk/client-s3'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { openFsBlobs } from '../../infra/blobs/fs.ts'
import { connectS3Blobs } from '../../infra/blobs/s3.ts'
import { createFleet } from '../../ingest/device/fleet.ts'
import { signReport } from '../../ingest/device/sign.ts'
import { archive, readDump } from '../../symbolicate/archive.ts'
import { keys } from '../infra/blobs.suite.ts'
import { until } from '../infra/clickhouse-fixture.ts'
import { accepted } from '../symbolicate/world.ts'
import { needs } from '../system/java.ts'
import { startS3, type S3Server } from '../system/s3.ts'
import { startIngestProcess, type IngestProcess } from './ingest-process.ts'

/** Dumps above 256 KiB go to the blob store while they come; ingest holds a part of each and no more. */
const MIB = 1024 * 1024
/** In the short form few fit at once, so that some are told to come again. */
const { count, size, limits, most } = process.env.OVERRUN_LONG === '1'
  ? { count: 20, size: 32 * MIB, limits: {}, most: 320 * MIB }
  : { count: 4, size: 6 * MIB, limits: { bytesInFlight: 16 * MIB }, most: 128 * MIB }
const fleet = createFleet({ devices: 1, now: Date.now() })
const { key, chain } = fleet.devices[0]!
let seq = 0
const bodyOf = (dump: Uint8Array) => Buffer.from(signReport({ dump, contentType: 'text/plain', claims: { bootcount: 1, seq: seq++, swname: 'sensord' }, key, chain }).body)
const post = (url: string, body: Uint8Array<ArrayBuffer>) => fetch(`${url}/v1/crashes`, { method: 'POST', headers: { 'content-type': 'application/cbor-seq' }, body })

async function folder(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'overrun-large-'))
  onTestFinished(() => rm(directory, { recursive: true, force: true, maxRetries: 5 }))
  return directory
}

test('killed between the blob and the log, ingest leaves an orphan and no answer; the report that comes again is one crash', async () => {
  const data = await folder()
  const body = bodyOf(randomBytes(300_000))
  const dying = await startIngestProcess(fleet, { data, killAfter: 'dump-stored' })
  await expect(post(dying.url, body)).rejects.toThrow()
  await dying.kill()
  const blobs = await openFsBlobs({ directory: join(data, 'blobs') })
  const [orphan] = await keys(blobs, 'dumps/')
  expect(orphan).toBeDefined()

  const ingest = await startIngestProcess(fleet, { data })
  onTestFinished(() => ingest.kill())
  expect((await post(ingest.url, body)).status).toBe(202)
  expect((await post(ingest.url, body)).status).toBe(200)
  // The orphan is the sweep's: nothing names it (test/symbolicate/sweep.test.ts).
  expect(await keys(blobs, 'dumps/')).toHaveLength(2)
})

const { skip, note } = needs('s3proxy')
describe.skipIf(skip)(`on real S3${note}`, () => {
  let server: S3Server
  let s3: { s3: object }
  beforeAll(async () => {
    server = await startS3()
    const { endpoint, region, bucket, credentials } = server
    s3 = { s3: { endpoint, region, bucket, ...credentials, forcePathStyle: true } }
  })
  afterAll(() => server?.stop())
  const blobsOf = ({ endpoint, region, bucket, credentials }: S3Server) => connectS3Blobs({ endpoint, region, bucket, credentials, forcePathStyle: true })

  async function unfinished(): Promise<number> {
    const client = new S3Client({ endpoint: server.endpoint, region: server.region, credentials: server.credentials, forcePathStyle: true })
    return ((await client.send(new ListMultipartUploadsCommand({ Bucket: server.bucket }))).Uploads ?? []).length
  }

  test(`${count} dumps of ${size / MIB} MiB at once: memory stays bounded, and each is stored whole or told to come again`, async () => {
    const ingest: IngestProcess = await startIngestProcess(fleet, { data: await folder(), blobs: s3, ingest: { limits } })
    onTestFinished(() => ingest.kill())
    const { resident: quiet } = ingest.memory()
    const one = randomBytes(size)
    const digests = new Set<string>()
    const statuses: Record<string, number> = {}
    await Promise.all(Array.from({ length: count }, async (_, i) => {
      const dump = Buffer.from(one)
      dump.writeUInt32LE(i)
      digests.add(createHash('sha256').update(dump).digest('hex'))
      const body = bodyOf(dump)
      for (;;) {
        // Who is told 503 while it still sends may see only that the connection ends.
        const response = await post(ingest.url, body).catch(() => null)
        statuses[response?.status ?? 'cut'] = (statuses[response?.status ?? 'cut'] ?? 0) + 1
        if (response?.status === 202) return
        if (response) expect([response.status, response.headers.get('retry-after')]).toEqual([503, '5'])
        await new Promise((resolve) => setTimeout(resolve, 500))
      }
    }))
    const { peak } = ingest.memory()
    console.log(`${count} x ${size / MIB} MiB: quiet ${Math.round(quiet / MIB)} MiB, peak ${Math.round(peak / MIB)} MiB, answers ${JSON.stringify(statuses)}`)
    expect(statuses[202]).toBe(count)
    expect(peak - quiet).toBeLessThan(most)

    const blobs = await blobsOf(server)
    const stored = await keys(blobs, 'dumps/')
    expect(stored).toHaveLength(count)
    for (const name of stored) expect(digests.delete(createHash('sha256').update((await blobs.get(name))!).digest('hex'))).toBe(true)
    expect(await unfinished()).toBe(0)
  }, 900_000)

  test('a large dump whose digest is not the signed one, or that breaks off, leaves nothing behind', async () => {
    const ingest = await startIngestProcess(fleet, { data: await folder(), blobs: s3 })
    onTestFinished(() => ingest.kill())
    const blobs = await blobsOf(server)
    const before = await keys(blobs, 'dumps/')
    const forged = bodyOf(randomBytes(6 * MIB))
    forged[forged.length - 1]! ^= 1
    const refused = await post(ingest.url, forged)
    expect([refused.status, (await refused.json() as { type: string }).type]).toEqual([400, expect.stringMatching(/digest-mismatch$/)])
    const cut = new AbortController()
    const broken = bodyOf(randomBytes(6 * MIB))
    let sent = 0
    const body = new ReadableStream({ async pull(controller) {
      if (sent < 5.5 * MIB) return controller.enqueue(broken.subarray(sent, sent += 64 * 1024))
      // The first part is under way when the device goes.
      await until(async () => await unfinished() === 1, 'the upload has begun')
      cut.abort()
    } })
    const headers = { 'content-type': 'application/cbor-seq', 'content-length': String(broken.length) }
    await expect(fetch(`${ingest.url}/v1/crashes`, { method: 'POST', headers, body, duplex: 'half', signal: cut.signal } as RequestInit)).rejects.toThrow()
    await until(async () => await unfinished() === 0, 'the upload is aborted')
    expect(await keys(blobs, 'dumps/')).toEqual(before)
  })

  test('a batch is one object, written again it is the same, and one dump is read back by its range', async () => {
    const blobs = await blobsOf(server)
    const entries = Array.from({ length: 40 }, (_, i) => ({ crash: accepted(randomBytes(3_000)), offset: i }))
    const places = await archive(blobs, 'crashes.accepted', 5, entries)
    const [name, ...others] = await keys(blobs, 'packs/crashes.accepted/5/')
    expect([others, new Set(places.map(({ pack }) => pack))]).toEqual([[], new Set([name])])
    expect(await archive(blobs, 'crashes.accepted', 5, entries)).toEqual(places)
    expect(await keys(blobs, 'packs/crashes.accepted/5/')).toEqual([name])
    for (const [i, place] of places.entries()) {
      const { crash } = entries[i]!
      expect(Buffer.compare((await readDump(blobs, place))!, 'bytes' in crash.dump ? crash.dump.bytes : Buffer.alloc(0))).toBe(0)
      const manifest = await blobs.get(place.manifestPack, { start: place.manifestOffset, end: place.manifestOffset + place.manifestLength })
      expect(Buffer.compare(manifest!, crash.manifest!)).toBe(0)
    }
  })
})
