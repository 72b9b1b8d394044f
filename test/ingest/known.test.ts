import { createHash } from 'node:crypto'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createLogger } from '../../infra/service/logger.ts'
import type { AcceptedCrash } from '../../ingest/contract.ts'
import { createKnownCrashes, type KnownCrashes } from '../../ingest/known.ts'
import { accepted, STORY } from '../symbolicate/world.ts'

const DAY = 86_400_000
let directory: string
let known: KnownCrashes
const open = () => createKnownCrashes({ directory: join(directory, 'known'), days: 7, logger: createLogger({ part: 'test', level: 'silent' }) })
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'known-'))
  known = open()
})
afterEach(async () => {
  await known.close()
  await rm(directory, { recursive: true })
})

const hex = (text: string) => createHash('sha256').update(text).digest('hex')
const crashOf = (name: string, said: Partial<AcceptedCrash> = {}) => accepted('dump', { ...said, claims: { ...said.claims, fingerprint: hex(name) } })

test('whatever was learnt, what is found is what was learnt under that very name, and in time', async () => {
  const claims = fc.record({ swversion: fc.constantFrom('1', '2'), hwmodel: fc.constantFrom('a', 'b'), fingerprint: fc.constantFrom(hex('x'), hex('y'), hex('z')) })
  const step = fc.record({ fleet: fc.constantFrom('one', 'two'), claims, at: fc.integer({ min: 0, max: 20 * DAY }), standing: fc.constantFrom('counted', 'claimed', 'stale-counter', 'counter-reuse') })
  await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 20 }), step, async (steps, asked) => {
    const fleets = new Map(['one', 'two'].map((fleet) => [fleet, `${fleet}-${Math.random()}`]))
    const learnt = []
    for (const { fleet, claims, at, standing } of steps) {
      const crash = accepted('dump', { fleet: fleets.get(fleet)!, claims, receivedAt: STORY + at, standing: standing as AcceptedCrash['standing'] })
      known.learn(crash)
      learnt.push(crash)
    }
    await known.close()
    known = open()
    const found = known.find({ fleet: fleets.get(asked.fleet)!, contentType: 'text/plain', claims: asked.claims }, STORY + asked.at)
    if (found === null) return
    const [crash] = learnt.filter(({ id }) => id === found.id)
    expect(crash).toMatchObject({ fleet: fleets.get(asked.fleet), standing: 'counted', deviceId: found.deviceId, claims: asked.claims })
    expect(STORY + asked.at - crash!.receivedAt).toBeLessThan(7 * DAY)
    expect(STORY + asked.at).toBeGreaterThanOrEqual(crash!.receivedAt)
  }), { numRuns: 60 })
})

test('it is learnt once and again when it has been forgotten', async () => {
  const find = (at: number) => known.find({ fleet: 'demo', contentType: 'text/plain', claims: { ...first.claims } }, at)
  const first = crashOf('one')
  known.learn(first)
  await expect.poll(() => find(STORY)?.id).toBe(first.id)
  known.learn(crashOf('one', { receivedAt: STORY + DAY }))
  expect(find(STORY + 7 * DAY - 1)?.id).toBe(first.id)
  expect(find(STORY + 7 * DAY)).toBeNull()
  const later = crashOf('one', { receivedAt: STORY + 8 * DAY })
  known.learn(later)
  await expect.poll(() => find(STORY + 8 * DAY)?.id).toBe(later.id)
})

test('it stays small however many crashes there are, and the newest are known', async () => {
  const crashes = Array.from({ length: 80_000 }, (_, i) => crashOf(`crash ${i}`, { id: hex(`id ${i}`).slice(0, 32), deviceKeyId: hex('key') }))
  for (const crash of crashes) known.learn(crash)
  await known.close()
  known = open()
  const found = crashes.map((crash) => known.find(crash, STORY)?.id)
  expect(found.every((id, i) => id === undefined || id === crashes[i]!.id)).toBe(true)
  expect(found.filter((id) => id !== undefined).length).toBeLessThanOrEqual(65_536)
  expect(found.slice(-1000).filter((id) => id !== undefined).length).toBeGreaterThan(950)
  expect((await stat(join(directory, 'known', 'data.mdb'))).size).toBeLessThan(32 * 2 ** 20)
})
