import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import type { BucketsPage } from '../../dashboard/api/contract.ts'
import { until } from '../infra/clickhouse-fixture.ts'
import { drawCore } from '../symbolicate/formats/elf-core-builder.ts'
import { cleanEnvironment, startOverrun } from './overrun-process.ts'

/** Devices whose dumps name no build: it is the one that they signed for, and its ELF file names their stacks. */
const ROOT = join(import.meta.dirname, '../..')
const MCU = join(ROOT, 'test/corpus/mcu')
const folder = mkdtempSync(join(tmpdir(), 'overrun-firmware-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const file = (name: string, content: string | Uint8Array): string => {
  const path = join(folder, name)
  writeFileSync(path, content)
  return path
}
function overrun(...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['overrun.ts', ...args], { cwd: ROOT, env: cleanEnvironment(), encoding: 'utf8' })
  expect(status, `overrun ${args.join(' ')}: ${stderr}`).toBe(0)
  return stdout
}

test('a Cortex-M\'s log and an ELF core without a build id go through the front door and get the names of the firmware that was uploaded', async () => {
  const log = readFileSync(join(MCU, 'v8m-in-handler.log'), 'latin1')
  const build = /#BUILD ([0-9a-f]{40})/.exec(log)![1]!
  const firmware = file('crash.log', log.replace(/#BUILD .*\n/, ''))
  // The same code as a program under Linux, as an emulator dumps it: no file map, no pages of code.
  const registers = Array.from({ length: 17 }, () => 0n)
  Object.assign(registers, { 13: 0x4000_0000n, 14: BigInt(pushed(log, 5)), 15: BigInt(pushed(log, 6)) })
  const core = file('core', drawCore({
    bits: 32, machine: 40, threads: [{ id: 7, signal: 11, registers }], process: { pid: 7, name: 'meterd', command: 'meterd' }, auxv: [[9, 0x1000_0041n]],
    memory: [{ address: 0x1000_0000n, flags: 5, bytes: new Uint8Array(), size: 0x1000n }, { address: 0x4000_0000n, flags: 6, bytes: Buffer.alloc(64) }],
  }))

  const server = await startOverrun(['start', '--data', join(folder, 'data'), '--ingest-port', '0', '--dashboard-port', '0'])
  try {
    const fleet = join(folder, 'fleet')
    overrun('fleet', 'init', fleet)
    overrun('fleet', 'add-anchor', join(fleet, 'ca.pem'), '--data', join(folder, 'data'))
    overrun('symbols', 'upload', join(MCU, 'v8m.elf'), '--data', join(folder, 'data'))
    for (const dump of [firmware, core]) overrun('send', dump, '--device', join(fleet, 'devices/demo-0001'), '--url', server.ready.ingest_url!, '--build-id', build)

    const buckets = async (): Promise<string[]> => {
      const response = await fetch(new URL('/api/v1/buckets', server.ready.dashboard_url), { headers: { authorization: `Bearer ${server.ready.token}` } })
      return ((await response.json()) as BucketsPage).items.map(({ title }) => title).toSorted()
    }
    await until(async () => (await buckets()).length === 2, 'two buckets')
    expect(await buckets()).toEqual([expect.stringMatching(/^wild-read in read_sensor \(v8m\.c:\d+\)$/), expect.stringMatching(/in read_sensor \(v8m\.c:\d+\)$/)])
  } finally {
    await server.stop()
  }
}, 120_000)

/** A word of the exception frame, which the log's first block of registers begins with. */
function pushed(log: string, word: number): number {
  const registers = /#CD:4102004400\r?\nE: #CD:([0-9a-f]{64})/.exec(log)![1]!
  return Buffer.from(registers, 'hex').readUInt32LE(4 * word)
}
