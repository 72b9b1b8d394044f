import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { lintAnchor } from '../../ingest/chain.ts'
import { statusOf, type Slug } from '../../ingest/outcome.ts'
import { snapshotSchema } from '../../ingest/registry.ts'
import { openDoor, type Door } from '../ingest/door.ts'

type Vector = { name: string; anchor: string; key: string; chain: string; dump: string; body: string; expect: 'accepted' | Slug }
const { vectors, at, fleet } = JSON.parse(readFileSync(new URL('vectors/reports.json', import.meta.url), 'utf8')) as { vectors: Vector[]; at: string; fleet: string }
type Statement = Vector & { to: 'offer' | 'heartbeat' }
const { vectors: statements } = JSON.parse(readFileSync(new URL('vectors/statements.json', import.meta.url), 'utf8')) as { vectors: Statement[] }
const good = vectors.filter((vector) => vector.expect === 'accepted')

const run = promisify(execFile)
const dir = mkdtempSync(join(tmpdir(), 'overrun-door-'))
let door: Door

beforeAll(async () => {
  const anchors = Object.fromEntries([...good, ...statements].map(({ anchor }) => {
    const linted = lintAnchor(anchor)
    if ('slug' in linted) throw new Error(linted.detail)
    return [linted.anchor.sha256, { pem: anchor }]
  }))
  door = await openDoor({ load: () => snapshotSchema.parse({ v: 1, fleets: { [fleet]: { settings: {}, anchors, devices: {} } } }) })
  door.clock.set(Date.parse(at))
})
afterAll(async () => {
  await door.close()
  rmSync(dir, { recursive: true })
})

describe('the vectors at a real door', () => {
  test.each(vectors)('$name is answered with $expect', async (vector) => {
    const response = await door.post(Buffer.from(vector.body, 'hex'))
    const answer = await response.json() as { type?: string; status: unknown }
    if (vector.expect === 'accepted') expect([response.status, answer.status]).toEqual([202, 'queued'])
    else expect([response.status, answer.type?.split('/').at(-1)]).toEqual([statusOf(vector.expect), statusOf(vector.expect) === 401 ? 'unauthorized' : vector.expect])
  })

  test.each(statements)('$name to $to is answered with $expect', async (vector) => {
    const response = await door.state(vector.to === 'offer' ? '/v1/crashes/offer' : '/v1/heartbeats', Buffer.from(vector.body, 'hex'))
    const answer = await response.json() as { type?: string; status: unknown }
    if (vector.expect === 'accepted') expect([response.status, answer.status]).toEqual(vector.to === 'offer' ? [200, 'send'] : [202, 'queued'])
    else expect([response.status, answer.type?.split('/').at(-1)]).toEqual([statusOf(vector.expect), statusOf(vector.expect) === 401 ? 'unauthorized' : vector.expect])
  })

  test.each(good)('$name sent again is a duplicate with the same id', async (vector) => {
    const send = async (): Promise<{ id: string; status: string }> => await (await door.post(Buffer.from(vector.body, 'hex'))).json() as { id: string; status: string }
    const [first, second] = [await send(), await send()]
    expect(second).toMatchObject({ id: first.id, status: 'duplicate' })
  })
})

/** What each of the two clients is told to do, as its own arguments. */
type Telling = { dump?: string; counters: [boot: number, seq: number]; by?: Vector; fingerprint?: string; resumable?: boolean; version?: string; to?: string }
const cli = fileURLToPath(new URL('device-cli.ts', import.meta.url))
const shell = fileURLToPath(new URL('../../ingest/device/overrun-send.sh', import.meta.url))
let files = 0
function file(content: string | Buffer): string {
  const path = join(dir, `file-${files++}`)
  writeFileSync(path, content)
  return path
}
async function tell(client: string, { dump, counters: [boot, seq], by = good[0]!, fingerprint, resumable, version, to = door.url }: Telling): Promise<Record<string, string>> {
  const [key, chain] = [file(by.key), file(by.chain)]
  const [program, args] = client === 'shell'
    ? ['sh', [
      shell, '-k', key, '-c', chain, '-u', to, '-b', String(boot), '-s', String(seq), ...(version ? ['-v', version] : []), ...(fingerprint ? ['-f', fingerprint] : []),
      ...(resumable ? ['-r'] : []), dump ?? '-H',
    ]] as const
    : [process.execPath, [
      cli, dump === undefined ? 'heartbeat' : 'send', ...(dump === undefined ? [] : [dump]), '--key', key, '--cert', chain, '--url', to, '--bootcount', String(boot), '--seq', String(seq), '--json',
      ...(version ? ['--swversion', version] : []), ...(fingerprint ? ['--fingerprint', fingerprint] : []), ...(resumable ? ['--resumable'] : []),
    ]] as const
  return JSON.parse((await run(program, [...args])).stdout) as Record<string, string>
}

describe.each(['TypeScript', 'shell'])('the client in %s at a real door', (client) => {
  const boot = client === 'shell' ? 1010 : 1000

  test('sends a report that arrives as it was sent', async () => {
    const { id } = await tell(client, { dump: file(`MDMP by ${client}`), counters: [boot, 0], version: '9.9' })
    const arrived = (await door.accepted()).find((crash) => crash.id === id)
    expect(arrived).toMatchObject({ fleet, deviceId: 'vectors-0001', authLevel: 'payload-signed', claims: { swversion: '9.9' } })
    expect(arrived && 'bytes' in arrived.dump && Buffer.from(arrived.dump.bytes).toString()).toBe(`MDMP by ${client}`)
  })

  test('offers a crash first, and keeps the dump of one that is known', async () => {
    const crash = { fingerprint: `a${boot}bcdef`, version: '9.9' }
    const before = (await door.accepted()).length
    expect(await tell(client, { ...crash, dump: file(`first of ${client}`), counters: [boot, 1] })).toMatchObject({ status: 'queued' })
    expect(await tell(client, { ...crash, dump: file(`second of ${client}`), counters: [boot, 2] })).toMatchObject({ status: 'known' })
    expect(await tell(client, { ...crash, dump: file(`second of ${client}`), counters: [boot, 2] })).toMatchObject({ status: 'duplicate' })
    const [first, second, ...more] = (await door.accepted()).slice(before)
    expect([first?.standing, second?.standing, second?.claimedOf === first?.id, more.length]).toEqual(['counted', 'claimed', true, 0])
    expect(second && 'bytes' in second.dump && second.dump.bytes.length).toBe(0)
  })

  test('says that its device is alive', async () => {
    expect(await tell(client, { counters: [boot, 4], version: '9.9' })).toMatchObject({ status: 'queued' })
    expect((await door.logged()).heartbeats.at(-1)).toMatchObject({ deviceId: 'vectors-0001', standing: 'counted', claims: { bootcount: boot, seq: 4, swversion: '9.9' } })
  })

  test('sends a dump in pieces over a link that breaks in the middle of them', async () => {
    const dump = randomBytes(2_500_000)
    const link = await breakingLink(door.port, [700_000, 1_400_000])
    const { id, status } = await tell(client, { dump: file(dump), counters: [boot, 3], resumable: true, to: link.url })
    link.close()
    expect([status, link.broken()]).toEqual(['queued', 2])
    const crash = (await door.accepted()).find((one) => one.id === id)!
    expect(crash).toMatchObject({ size: dump.length, digest: createHash('sha256').update(dump).digest('hex'), standing: 'counted' })
  }, 30_000)
})

/** Passes bytes on, and cuts the connection each time that so many have gone up in all. */
async function breakingLink(port: number, at: number[]) {
  let [up, broken] = [0, 0]
  const server = createServer((from) => {
    const to = connect(port, '127.0.0.1')
    for (const socket of [from, to]) socket.on('error', () => {})
    to.pipe(from)
    from.on('data', (chunk) => {
      up += chunk.length
      if (up >= (at[broken] ?? Infinity)) {
        broken++
        to.destroy()
        from.destroy()
      } else to.write(chunk)
    })
    from.on('end', () => to.end())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, broken: () => broken, close: () => server.close() }
}
