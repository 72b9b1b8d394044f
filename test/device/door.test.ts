import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
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
const good = vectors.filter((vector) => vector.expect === 'accepted')

const run = promisify(execFile)
const dir = mkdtempSync(join(tmpdir(), 'overrun-door-'))
let door: Door

beforeAll(async () => {
  const anchors = Object.fromEntries(good.map(({ anchor }) => {
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

  test.each(good)('$name sent again is a duplicate with the same id', async (vector) => {
    const send = async (): Promise<{ id: string; status: string }> => await (await door.post(Buffer.from(vector.body, 'hex'))).json() as { id: string; status: string }
    const [first, second] = [await send(), await send()]
    expect(second).toMatchObject({ id: first.id, status: 'duplicate' })
  })
})

describe('both clients at a real door', () => {
  const cli = fileURLToPath(new URL('device-cli.ts', import.meta.url))
  const shell = fileURLToPath(new URL('../../ingest/device/overrun-send.sh', import.meta.url))

  test.each(['TypeScript', 'shell'])('a report of the %s signer arrives as it was sent', async (client) => {
    const { key, chain } = good[0]!
    const file = (name: string, content: string): string => {
      writeFileSync(join(dir, name), content)
      return join(dir, name)
    }
    const [keyFile, chainFile, dump] = [file('key.pem', key), file('chain.pem', chain), file('dump', `MDMP by ${client}`)]
    const { stdout } = client === 'shell'
      ? await run('sh', [shell, '-k', keyFile, '-c', chainFile, '-u', door.url, '-b', '50', '-v', '9.9', dump])
      : await run(process.execPath, [cli, 'send', dump, '--key', keyFile, '--cert', chainFile, '--url', door.url, '--bootcount', '49', '--swversion', '9.9', '--json'])
    const { id } = JSON.parse(stdout) as { id: string }
    const arrived = (await door.accepted()).find((crash) => crash.id === id)
    expect(arrived).toMatchObject({ fleet, deviceId: 'vectors-0001', authLevel: 'payload-signed', claims: { swversion: '9.9' } })
    expect(arrived && 'bytes' in arrived.dump && Buffer.from(arrived.dump.bytes).toString()).toBe(`MDMP by ${client}`)
  })
})
