import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { open, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { spawnSync } from 'node:child_process'
import { afterAll, describe, expect, test } from 'vitest'
import { openEmbeddedLog, type EmbeddedLogOptions } from '../../infra/log/embedded.ts'
import { createMetrics } from '../../infra/service/metrics.ts'
import type { LogBatch } from '../../infra/log/log.ts'
import { scratch } from '../system/java.ts'
import { consumed, logSuite, read, until } from './log.suite.ts'

const folders: string[] = []
const folder = () => folders[folders.push(scratch('log')) - 1]!
afterAll(() => { for (const directory of folders) rmSync(directory, { recursive: true, force: true }) })

const KEEP = { bytes: 1e9, ageMs: 1e9 }
const openLog = (directory: string, options: Partial<EmbeddedLogOptions> = {}) => openEmbeddedLog({ directory, retention: KEEP, ...options })

logSuite('embedded log', false, () => {
  const directory = folder()
  return {
    async start() {},
    open: (_topics, options) => openLog(directory, options),
    async expire(log, topic) {
      await log.close()
      const expiring = await openLog(directory, { retention: { bytes: 0, ageMs: 1 } })
      await until(async () => (await expiring.stats(topic, 'worker')).lag === 0)
      await expiring.close()
      return openLog(directory)
    },
    appender: () => JSON.stringify({ directory }),
    async stop() {},
  }
})

describe('embedded log, on the disk', () => {
  test('flipped bytes are handed over with a fault, and the entries around them are whole', async () => {
    const directory = folder()
    let log = await openLog(directory)
    for (let i = 0; i < 30; i++) await log.append('t', { key: `device-${i}`, value: Buffer.from(`<entry ${i}>`.padEnd(i % 2 ? 200 : 9_000, '#')), headers: { n: String(i) } })
    await log.close()
    const damaged = [4, 7, 29]
    const file = join(directory, 'entries', 'data.mdb')
    const content = await readFile(file)
    const handle = await open(file, 'r+')
    for (const i of damaged) {
      // Small entries move when their page is copied: an old copy may lie in the file too, so every copy is damaged.
      for (let at = content.indexOf(`<entry ${i}>`); at >= 0; at = content.indexOf(`<entry ${i}>`, at + 1)) await handle.write(Buffer.from('X'), 0, 1, at + 3)
    }
    await handle.close()

    const metrics = createMetrics({ defaults: false })
    log = await openLog(directory, { metrics })
    const entries = await read(log, 't', 30)
    for (const [i, entry] of entries.entries()) {
      expect(entry.offset).toBe(i)
      if (damaged.includes(i)) expect(entry).toMatchObject({ fault: 'checksum-mismatch', key: '', headers: {} })
      else expect(entry).toMatchObject({ key: `device-${i}`, headers: { n: String(i) } })
    }
    expect(entries.filter(({ fault }) => fault).map(({ offset }) => offset)).toEqual(damaged)
    expect(await metrics.getSingleMetricAsString('log_entry_faults_total')).toContain('{topic="t"} 3')
    await log.close()
  })

  test('retention by bytes removes the oldest, counts what nobody had read, and shows the gap', async () => {
    const metrics = createMetrics({ defaults: false })
    const log = await openLog(folder(), { retention: { bytes: 50_000, ageMs: 1e9 }, metrics })
    for (let i = 0; i < 40; i++) await log.append('t', { key: 'd', value: new Uint8Array(5_000) })
    const { lag } = await log.stats('t', 'worker')
    expect(lag).toBeGreaterThan(0)
    expect(lag).toBeLessThanOrEqual(10)
    const batches: LogBatch[] = []
    await consumed(log, { topic: 't' }, (batch) => batches.push(batch) > 0)
    expect(batches[0]!.gap).toEqual({ from: 0, to: 40 - lag })
    expect(await metrics.getSingleMetricAsString('log_entries_removed_total')).toContain(`unread="true"} ${40 - lag}`)
    await log.close()
  })

  test('what a reader had confirmed is removed without alarm', async () => {
    const metrics = createMetrics({ defaults: false })
    const log = await openLog(folder(), { retention: { bytes: 20_000, ageMs: 1e9 }, metrics })
    let handled = 0
    const reader = await log.consume({ topic: 't', group: 'worker', startAt: async () => 0, maxEntries: 10, maxBytes: 1e6, maxWaitMs: 0 }, async ({ entries }) => { handled += entries.length })
    for (let i = 0; i < 20; i++) {
      await log.append('t', { key: 'd', value: new Uint8Array(5_000) })
      await until(async () => handled === i + 1 && (await log.stats('t', 'worker')).lag === 0)
    }
    const removed = await metrics.getSingleMetricAsString('log_entries_removed_total')
    expect(removed).toMatch(/unread="false"\} 1\d/)
    expect(removed).not.toContain('unread="true"}')
    await reader.stop()
    await log.close()
  })

  test('age removes what was read, and never what was not', async () => {
    const log = await openLog(folder(), { retention: { bytes: 1e9, ageMs: 1 } })
    for (let i = 0; i < 6; i++) await log.append('t', { key: 'd', value: new Uint8Array(10) })
    const batches: LogBatch[] = []
    await consumed(log, { topic: 't' }, (batch) => batches.push(batch) > 0)
    expect(batches[0]!.gap).toBeUndefined()
    expect(batches.flatMap(({ entries }) => entries).length).toBeGreaterThan(0)
    await log.close()
  })

  test('offsets never repeat, also after everything was removed and the log was opened again', async () => {
    const directory = folder()
    let log = await openLog(directory, { retention: { bytes: 0, ageMs: 30 } })
    for (let i = 0; i < 3; i++) expect(await log.append('t', { key: 'd', value: new Uint8Array(10) })).toEqual({ partition: 0, offset: i })
    await until(async () => (await log.stats('t', 'worker')).lag === 0)
    await log.close()
    log = await openLog(directory)
    expect(await log.append('t', { key: 'd', value: new Uint8Array(10) })).toEqual({ partition: 0, offset: 3 })
    await log.close()
  })

  test('a topic keeps the partitions that it was made with, so the order of a key survives a changed setting', async () => {
    const directory = folder()
    let log = await openLog(directory, { partitions: 4 })
    const places = await Promise.all(['a', 'b', 'c', 'd', 'e', 'f'].map((key) => log.append('t', { key, value: new Uint8Array(1) })))
    expect(new Set(places.map(({ partition }) => partition)).size).toBeGreaterThan(1)
    await log.close()
    log = await openLog(directory, { partitions: 2 })
    const again = await Promise.all(['a', 'b', 'c', 'd', 'e', 'f'].map((key) => log.append('t', { key, value: new Uint8Array(1) })))
    expect(again.map(({ partition }) => partition)).toEqual(places.map(({ partition }) => partition))
    await log.close()
  })

  test('a second process and a second opening are refused, and the folder is free after close', async () => {
    const directory = folder()
    const log = await openLog(directory)
    await expect(openLog(directory)).rejects.toMatchObject({ code: 'log-in-use', retryable: false })
    const other = spawnSync(process.execPath, [join(import.meta.dirname, 'log-appender.ts'), JSON.stringify({ directory }), 't', ''], { encoding: 'utf8', timeout: 30_000 })
    expect(other.status).toBe(1)
    expect(other.stderr).toContain('held by another process')
    await log.close()
    await (await openLog(directory)).close()
  })

  test('files that are no log are a broken world, and the folder is not kept locked', async () => {
    const directory = folder()
    mkdirSync(join(directory, 'entries'))
    writeFileSync(join(directory, 'entries', 'data.mdb'), Buffer.alloc(40_000, 'no log'))
    for (let i = 0; i < 2; i++) await expect(openLog(directory)).rejects.toMatchObject({ name: 'BrokenWorld', code: 'log-file-damaged', retryable: false })
  })

  test('one group has one reader, and the next may come when it has stopped', async () => {
    const log = await openLog(folder())
    const options = { topic: 't', group: 'worker', startAt: async () => 0, maxEntries: 1, maxBytes: 1, maxWaitMs: 0 }
    const reader = await log.consume(options, async () => undefined)
    await expect(log.consume(options, async () => undefined)).rejects.toMatchObject({ code: 'log-group-in-use' })
    await reader.stop()
    await (await log.consume(options, async () => undefined)).stop()
    await log.close()
  })

  test('a write that the disk did not take ends the process, and what was acknowledged is kept', () => {
    const directory = folder()
    const script = join(import.meta.dirname, 'log-disk-full.ts')
    // A limit on the size of files: lmdb is told EIO, and the disk has room, so nothing tells it from a failed sync.
    const child = spawnSync('sh', ['-c', 'ulimit -f 4096; exec "$0" "$@"', process.execPath, script, directory], { encoding: 'utf8', timeout: 60_000 })
    expect(child.status).toBe(74)
    expect(child.stderr).toContain('every crash that was acknowledged is kept')
    const acknowledged = child.stdout.trim().split('\n').at(-1)
    expect(acknowledged).toMatch(/^acknowledged \d+$/)
    const after = spawnSync(process.execPath, [script, directory, 'count'], { encoding: 'utf8', timeout: 60_000 })
    expect(after.stdout.trim()).toBe(acknowledged?.replace('acknowledged', 'kept'))
  })
})
