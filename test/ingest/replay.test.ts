import { createHash } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createLogger } from '../../infra/service/logger.ts'
import { createReplay, type Replay, type Report } from '../../ingest/replay.ts'

const logger = createLogger({ part: 'test', level: 'silent' })
const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')
const report = (bootcount: number, seq: number, dump = 'dump', device = 'device'): Report =>
  ({ fleet: 'thermostats', deviceKeyId: sha256(device), epoch: 0, bootcount, seq, digest: sha256(dump) })

let directory: string
let replay: Replay
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'replay-'))
  replay = createReplay({ directory, logger })
})
afterEach(async () => {
  await replay.close()
  await rm(directory, { recursive: true })
})

async function reopen(): Promise<void> {
  await replay.close()
  replay = createReplay({ directory, logger })
}

async function keep(what: Report, eventTime = 0): Promise<void> {
  const claim = await replay.claim(what)
  if (claim.kind !== 'fresh') throw new Error(`expected fresh, got ${claim.kind}`)
  claim.keep(eventTime)
}

const kindOf = (what: Report) => replay.look(what).kind

test('a kept report is a duplicate with the same dump and counter reuse with another', async () => {
  await keep(report(1, 0))
  expect(kindOf(report(1, 0))).toBe('duplicate')
  expect(kindOf(report(1, 0, 'another dump'))).toBe('reuse')
  expect(kindOf(report(1, 1))).toBe('fresh')
  expect(kindOf(report(1, 0, 'dump', 'another device'))).toBe('fresh')
  expect(kindOf({ ...report(1, 0), fleet: 'doors' })).toBe('fresh')
})

test('a released report may come again', async () => {
  const claim = await replay.claim(report(1, 0))
  if (claim.kind === 'fresh') claim.release()
  expect((await replay.claim(report(1, 0))).kind).toBe('fresh')
})

test('what was kept survives a restart', async () => {
  await keep(report(7, 3), 1234)
  await reopen()
  expect(kindOf(report(7, 3))).toBe('duplicate')
  expect(replay.look(report(7, 4))).toEqual({ kind: 'fresh', previousEvent: 1234 })
})

test('reports with equal counters wait for each other and exactly one of two dumps is fresh', async () => {
  const first = await replay.claim(report(1, 0))
  const order: string[] = []
  const same = replay.claim(report(1, 0)).then((claim) => order.push(`same ${claim.kind}`))
  const other = replay.claim(report(1, 0, 'another dump')).then((claim) => order.push(`other ${claim.kind}`))
  await new Promise((resolve) => setImmediate(resolve))
  expect(order).toEqual([])
  if (first.kind === 'fresh') first.keep(0)
  await Promise.all([same, other])
  expect(order).toEqual(['same duplicate', 'other reuse'])
})

test('the one who waits takes over when the first could not be stored', async () => {
  const first = await replay.claim(report(1, 0))
  const second = replay.claim(report(1, 0))
  const third = replay.claim(report(1, 0, 'another dump'))
  if (first.kind === 'fresh') first.release()
  const claim = await second
  expect(claim.kind).toBe('fresh')
  if (claim.kind === 'fresh') claim.keep(0)
  expect((await third).kind).toBe('reuse')
})

test('a boot older than the last 64 is stale, also after a restart', async () => {
  for (const boot of [1, 2, 64]) await keep(report(boot, 0))
  expect(kindOf(report(1, 0))).toBe('duplicate')
  await keep(report(65, 0))
  expect(kindOf(report(1, 9))).toBe('stale')
  await reopen()
  expect(kindOf(report(1, 0))).toBe('stale')
  expect(kindOf(report(2, 0))).toBe('duplicate')
  await keep(report(1_000_000, 0))
  await reopen()
  expect(kindOf(report(65, 0))).toBe('stale')
})

test('at most 1,024 reports are kept for a device key, and the oldest go first', async () => {
  for (let seq = 0; seq < 1030; seq++) await keep(report(5, seq, `dump ${seq}`))
  await reopen()
  expect([0, 1, 5].map((seq) => kindOf(report(5, seq, `dump ${seq}`)))).toEqual(['stale', 'stale', 'stale'])
  expect([6, 7, 1029].map((seq) => kindOf(report(5, seq, `dump ${seq}`)))).toEqual(['duplicate', 'duplicate', 'duplicate'])
  for (let seq = 1030; seq < 1040; seq++) await keep(report(5, seq, `dump ${seq}`))
  await reopen()
  expect([15, 16].map((seq) => kindOf(report(5, seq, `dump ${seq}`)))).toEqual(['stale', 'duplicate'])
})

test('the previous event of a device key is the newest that was kept, not the last', async () => {
  await keep(report(1, 0), 500)
  await keep(report(1, 1), 300)
  expect(replay.look(report(1, 2))).toEqual({ kind: 'fresh', previousEvent: 500 })
  await reopen()
  expect(replay.look(report(1, 2))).toEqual({ kind: 'fresh', previousEvent: 500 })
})

test('counters up to 2^53 - 1 are told apart', async () => {
  const most = Number.MAX_SAFE_INTEGER
  await keep(report(most, most))
  await reopen()
  expect(kindOf(report(most, most))).toBe('duplicate')
  expect(kindOf(report(most, most - 1))).toBe('fresh')
  expect(kindOf(report(most - 64, 0))).toBe('stale')
})

test('many devices at once: every kept report is a duplicate right away and after a restart', async () => {
  const reports = Array.from({ length: 2000 }, (_, i) => report(1 + (i % 3), Math.floor(i / 150), 'dump', `device ${i % 50}`))
  const distinct = [...new Map(reports.map((r) => [JSON.stringify(r), r])).values()]
  await Promise.all(distinct.map((r) => keep(r)))
  expect(new Set(distinct.map(kindOf))).toEqual(new Set(['duplicate']))
  await reopen()
  expect(new Set(distinct.map(kindOf))).toEqual(new Set(['duplicate']))
})

test('a rebased device begins anew: what it used before is fresh again, and its earlier life keeps its own window', async () => {
  for (const boot of [1, 2, 500]) await keep(report(boot, 0))
  await reopen()
  const anew = (boot: number, dump = 'dump') => ({ ...report(boot, 0, dump), epoch: 17 })
  expect([kindOf(report(1, 0)), kindOf(anew(1))]).toEqual(['stale', 'fresh'])
  await keep(anew(1))
  await keep(anew(2, 'another dump'))
  await reopen()
  expect([kindOf(anew(1)), kindOf(anew(2)), kindOf(anew(3)), kindOf(report(2, 0)), kindOf(report(500, 0))]).toEqual(['duplicate', 'reuse', 'fresh', 'stale', 'duplicate'])
})
