import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { ConsumeOptions, Log, LogBatch, LogEntry } from '../../infra/log/log.ts'

/** What an adapter brings to the suite: a log under the same name again and again, and a way to make retention act. */
export interface LogUnderTest {
  start(): Promise<void>
  open(topics: readonly string[], options?: { maxBytesInFlight?: number }): Promise<Log>
  /** Lets retention remove everything that the topic holds; gives the log back, open. */
  expire(log: Log, topic: string): Promise<Log>
  /** The argument that makes log-appender.ts open the same log. */
  appender(topic: string): string
  stop(): Promise<void>
}

/** Both adapters keep what log.ts promises: the same tests, on the real thing. */
export function logSuite(name: string, skip: boolean, create: () => LogUnderTest): void {
  describe.skipIf(skip)(name, () => {
    let under: LogUnderTest
    let topics = 0
    const newTopic = () => `t${++topics}-${Date.now()}`
    beforeAll(async () => {
      under = create()
      await under.start()
    })
    afterAll(() => under?.stop())

    test('what was appended is read back: key, headers, value, order, position', async () => {
      const topic = newTopic()
      const log = await under.open([topic])
      const value = Uint8Array.from({ length: 70_000 }, (_, i) => i * 7)
      const before = Date.now()
      const position = await log.append(topic, { key: 'device-ä', value, headers: { 'content-type': 'x', name: 'ö' } })
      await log.append(topic, { key: 'device-ä', value: new Uint8Array() })
      const [first, second] = await read(log, topic, 2)
      expect(first).toMatchObject({ offset: position.offset, key: 'device-ä', headers: { 'content-type': 'x', name: 'ö' } })
      expect(Buffer.compare(first!.value, value)).toBe(0)
      expect(Math.abs(first!.appendedAt - before)).toBeLessThan(60_000)
      expect(second).toMatchObject({ offset: position.offset + 1, headers: {} })
      expect(second!.value).toHaveLength(0)
      expect(first!.fault).toBeUndefined()
      await log.close()
    })

    test('messages of one key are read in the order of their appends, whatever happens around them', async () => {
      const topic = newTopic()
      const log = await under.open([topic])
      const sent = Array.from({ length: 400 }, (_, i) => ({ key: `d${i % 7}`, n: i }))
      await Promise.all(sent.map(({ key, n }) => log.append(topic, { key, value: Buffer.from(String(n)) })))
      const entries = await read(log, topic, 400)
      for (const key of new Set(sent.map((message) => message.key))) {
        const numbers = entries.filter((entry) => entry.key === key).map(({ value }) => Number(Buffer.from(value).toString()))
        expect(numbers).toEqual(sent.filter((message) => message.key === key).map(({ n }) => n))
      }
      await log.close()
    })

    test('append tells the position at which the entry is read', async () => {
      const topic = newTopic()
      const log = await under.open([topic])
      const told = await Promise.all(Array.from({ length: 50 }, async (_, i) => ({ i, ...await log.append(topic, { key: `k${i}`, value: Buffer.from(String(i)) }) })))
      const found = new Map<string, string>()
      await consumed(log, { topic }, (batch) => {
        for (const { offset, value } of batch.entries) found.set(`${batch.partition}/${offset}`, Buffer.from(value).toString())
        return found.size >= 50
      })
      for (const { i, partition, offset } of told) expect(found.get(`${partition}/${offset}`)).toBe(String(i))
      await log.close()
    })

    test('a batch keeps its bounds, and one entry larger than the bound still comes', async () => {
      const topic = newTopic()
      const log = await under.open([topic])
      for (let i = 0; i < 20; i++) await log.append(topic, { key: 'd', value: new Uint8Array(1_000) })
      await log.append(topic, { key: 'd', value: new Uint8Array(50_000) })
      const sizes: { count: number; bytes: number }[] = []
      await consumed(log, { topic, maxEntries: 7, maxBytes: 5_000 }, ({ entries }) => {
        sizes.push({ count: entries.length, bytes: entries.reduce((sum, { value }) => sum + value.byteLength, 0) })
        return sizes.reduce((sum, { count }) => sum + count, 0) === 21
      })
      for (const { count, bytes } of sizes) expect(count === 1 || (count <= 7 && bytes <= 5_000)).toBe(true)
      expect(sizes.at(-1)).toEqual({ count: 1, bytes: 50_000 })
      await log.close()
    })

    test('a batch whose handling rejects comes again, the same, and nothing overtakes it', async () => {
      const topic = newTopic()
      const log = await under.open([topic])
      for (let i = 0; i < 6; i++) await log.append(topic, { key: 'd', value: Buffer.from([i]) })
      const seen: number[][] = []
      await consumed(log, { topic, maxEntries: 3 }, ({ entries }) => {
        seen.push(entries.map(({ value }) => value[0]!))
        if (seen.length <= 2) throw new Error('the database is away')
        return seen.flat().includes(5)
      })
      expect(seen[0]).toEqual([0, 1, 2].slice(0, seen[0]!.length))
      expect(seen[1]).toEqual(seen[0])
      expect(seen[2]).toEqual(seen[0])
      expect(seen.slice(2).flat()).toEqual([0, 1, 2, 3, 4, 5])
      await log.close()
    })

    test('a reader starts where its own store says, also when the log has seen it further on', async () => {
      const topic = newTopic()
      let log = await under.open([topic])
      const places = []
      for (let i = 0; i < 10; i++) places.push(await append(log, topic, i))
      const first = await read(log, topic, 10)
      await log.close()
      log = await under.open([topic])
      const again = await read(log, topic, 6, { startAt: only(places[0]!.partition, first[4]!.offset) })
      expect(again.map(({ value }) => value[0])).toEqual([4, 5, 6, 7, 8, 9])
      await log.close()
    })

    test('a position that the log never reached is refused, not skipped over', async () => {
      const topic = newTopic()
      const log = await under.open([topic])
      await log.append(topic, { key: 'd', value: Buffer.from('x') })
      const consume = log.consume({ ...DEFAULTS, topic, startAt: async () => 1_000_000 }, async () => undefined)
      await expect(consume).rejects.toMatchObject({ code: 'log-position-past-end', retryable: false })
      await log.close()
    })

    test('a reader that is alone owns every partition', async () => {
      const topic = newTopic()
      const log = await under.open([topic])
      const reader = await log.consume({ ...DEFAULTS, topic }, async () => undefined)
      const { partitions } = await log.stats(topic, DEFAULTS.group)
      expect(reader.assigned().toSorted((a, b) => a - b)).toEqual(partitions.map(({ partition }) => partition).toSorted((a, b) => a - b))
      await reader.stop()
      await log.close()
    })

    test('entries appended while a reader waits reach it', async () => {
      const topic = newTopic()
      const log = await under.open([topic])
      const got: number[] = []
      const reader = await log.consume({ ...DEFAULTS, topic }, async ({ entries }) => { got.push(...entries.map(({ value }) => value[0]!)) })
      for (let i = 0; i < 5; i++) {
        await log.append(topic, { key: 'd', value: Buffer.from([i]) })
        await until(() => got.length === i + 1)
      }
      expect(got).toEqual([0, 1, 2, 3, 4])
      await reader.stop()
      await log.close()
    })

    test('stop lets the batch in hand finish, and nothing is read afterwards', async () => {
      const topic = newTopic()
      const log = await under.open([topic])
      await log.append(topic, { key: 'd', value: Buffer.from('1') })
      const begun = Promise.withResolvers<void>()
      const finish = Promise.withResolvers<void>()
      let batches = 0
      const reader = await log.consume({ ...DEFAULTS, topic }, async () => {
        batches++
        begun.resolve()
        await finish.promise
      })
      await begun.promise
      let stopped = false
      const stopping = reader.stop().then(() => { stopped = true })
      await log.append(topic, { key: 'd', value: Buffer.from('2') })
      expect(stopped).toBe(false)
      finish.resolve()
      await stopping
      expect(batches).toBe(1)
      await until(async () => (await log.stats(topic, 'worker')).lag === 1)
      await log.close()
    })

    test('lag and the age of the oldest entry rise with what is not confirmed, and fall to zero', async () => {
      const topic = newTopic()
      const log = await under.open([topic])
      expect(await log.stats(topic, 'worker')).toMatchObject({ lag: 0, oldestAgeMs: 0 })
      const ends = new Map<number, number>()
      for (let i = 0; i < 4; i++) {
        const { partition, offset } = await log.append(topic, { key: `d${i}`, value: Buffer.from('x') })
        ends.set(partition, offset + 1)
      }
      await until(async () => (await log.stats(topic, 'worker')).oldestAgeMs > 0)
      const behind = await log.stats(topic, 'worker')
      expect(behind.lag).toBe(4)
      expect(behind.partitions.reduce((sum, { lag }) => sum + lag, 0)).toBe(4)
      // A reader's own store is asked the same, whatever the group has confirmed.
      expect(await log.stats(topic, ends)).toMatchObject({ lag: 0, oldestAgeMs: 0 })
      await read(log, topic, 4)
      expect(await log.stats(topic, 'worker')).toMatchObject({ lag: 0, oldestAgeMs: 0 })
      expect(await log.stats(topic, new Map())).toMatchObject({ lag: 4, oldestAgeMs: expect.any(Number) })
      await log.close()
    })

    test('what retention removed before it was read is shown as a gap, and offsets go on', async () => {
      const topic = newTopic()
      let log = await under.open([topic])
      const removed = [await append(log, topic, 0), await append(log, topic, 1), await append(log, topic, 2)]
      log = await under.expire(log, topic)
      const kept = await append(log, topic, 3)
      expect(kept.offset).toBe(removed[2]!.offset + 1)
      const batches: LogBatch[] = []
      await consumed(log, { topic, startAt: only(removed[1]!.partition, removed[1]!.offset) }, (batch) => batches.push(batch) > 0)
      expect(batches[0]!.gap).toEqual({ from: removed[1]!.offset, to: kept.offset })
      expect(batches[0]!.entries.map(({ value }) => value[0])).toEqual([3])
      await log.close()
    })

    test('a gap is told even when nothing follows it, and what comes later is read from behind it', async () => {
      const topic = newTopic()
      let log = await under.open([topic])
      const removed = [await append(log, topic, 0), await append(log, topic, 1)]
      const { partition } = removed[0]!
      log = await under.expire(log, topic)
      const batches: LogBatch[] = []
      const reader = await log.consume({ ...DEFAULTS, topic, startAt: async () => 0 }, async (batch) => {
        batches.push(batch)
        if (batches.length === 1) throw new Error('the database is away')
      })
      await until(() => batches.length === 2)
      for (const { gap, entries } of batches) expect({ gap, entries }).toEqual({ gap: { from: 0, to: removed[1]!.offset + 1 }, entries: [] })
      await append(log, topic, 2)
      await until(() => batches.length === 3)
      expect(batches[2]!.gap).toBeUndefined()
      expect(batches[2]!.entries.map(({ value }) => value[0])).toEqual([2])
      expect(batches[2]!.partition).toBe(partition)
      await reader.stop()
      await log.close()
    })

    test('appends beyond the bytes allowed in flight are refused at once, and the others are kept', async () => {
      const topic = newTopic()
      const log = await under.open([topic], { maxBytesInFlight: 100_000 })
      const outcomes = await Promise.allSettled(Array.from({ length: 20 }, () => log.append(topic, { key: 'd', value: new Uint8Array(20_000) })))
      const refused = outcomes.filter((outcome) => outcome.status === 'rejected')
      for (const { reason } of refused) expect(reason).toMatchObject({ name: 'BrokenWorld', code: 'log-overloaded', retryable: true })
      expect(refused.length).toBeGreaterThan(0)
      expect(await read(log, topic, 20 - refused.length)).toHaveLength(20 - refused.length)
      await log.append(topic, { key: 'd', value: new Uint8Array(20_000) })
      await log.close()
    })

    test('a closed log refuses everything', async () => {
      const topic = newTopic()
      const log = await under.open([topic])
      await log.check()
      await log.close()
      await log.close()
      await expect(log.append(topic, { key: 'd', value: new Uint8Array(1) })).rejects.toMatchObject({ code: 'log-closed', retryable: false })
      await expect(log.check()).rejects.toMatchObject({ name: 'BrokenWorld' })
    })

    test('everything acknowledged before kill -9 of the appending process is there afterwards', async () => {
      const topic = newTopic()
      const acknowledged = new Set<string>()
      for (let round = 0; round < 3; round++) {
        const child = spawn(process.execPath, [join(import.meta.dirname, 'log-appender.ts'), under.appender(topic), topic, `r${round}-`], { stdio: ['ignore', 'pipe', 'inherit'] })
        const goal = acknowledged.size + 300 + round * 111
        for await (const id of createInterface(child.stdout!)) {
          acknowledged.add(id)
          if (acknowledged.size === goal) child.kill('SIGKILL')
        }
        if (child.signalCode === null && child.exitCode === null) await once(child, 'exit')
        expect(child.signalCode).toBe('SIGKILL')
      }
      const log = await under.open([topic])
      const { lag } = await log.stats(topic, 'worker')
      const entries = await read(log, topic, lag)
      const kept = entries.map(({ headers }) => headers.id!)
      expect([...acknowledged].filter((id) => !kept.includes(id))).toEqual([])
      expect(new Set(kept).size).toBe(kept.length)
      for (const { value, headers } of entries) expect(Buffer.from(value.subarray(0, headers.id!.length)).toString()).toBe(headers.id)
      await log.close()
    })
  })
}

const DEFAULTS = { group: 'worker', startAt: async () => 0, maxEntries: 100, maxBytes: 1_000_000, maxWaitMs: 50 } satisfies Partial<ConsumeOptions>

const append = (log: Log, topic: string, n: number) => log.append(topic, { key: 'd', value: Buffer.from([n]) })

/** A store that knows a position in one partition only. */
const only = (partition: number, offset: number) => async (asked: number) => (asked === partition ? offset : 0)

/** Reads until `enough` says so, then stops. */
export async function consumed(log: Log, options: Partial<ConsumeOptions> & { topic: string }, enough: (batch: LogBatch) => boolean): Promise<void> {
  const done = Promise.withResolvers<void>()
  const reader = await log.consume({ ...DEFAULTS, ...options }, async (batch) => { if (enough(batch)) done.resolve() })
  await done.promise
  await reader.stop()
}

export async function read(log: Log, topic: string, count: number, options: Partial<ConsumeOptions> = {}): Promise<LogEntry[]> {
  const entries: LogEntry[] = []
  await consumed(log, { topic, ...options }, (batch) => entries.push(...batch.entries) >= count)
  return entries
}

export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!await holds()) await new Promise((resolve) => setTimeout(resolve, 10))
}
