import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, onTestFinished, test } from 'vitest'
import { seeded } from './devices.ts'
import { judge } from './oracle.ts'
import { crashesOf, long, recovered, seed, underLoad, until } from './scenario.ts'

/**
 * A disk that is full, that fails, that changes bytes. Full: a folder of the data is a small file system of its own, filled
 * by a ballast and emptied again. Failing: a tracer answers the log's syncs with EIO. What the machine doesn't let a test
 * do (mount, trace) is skipped by name.
 */
const folder = (): string => mkdtempSync(join(tmpdir(), 'overrun-faults-'))

function canMount(): boolean {
  const at = folder()
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', at]).status === 0
  if (mounted) spawnSync('umount', [at])
  rmSync(at, { recursive: true, force: true })
  return mounted
}
const canTrace = (): boolean => spawnSync('strace', ['-qq', '-e', 'trace=fdatasync', '-e', 'inject=fdatasync:error=EIO', 'true']).status === 0

const mountable = canMount()
describe.skipIf(!mountable)(`a full disk${mountable ? '' : ' (mount is not allowed here)'}`, () => {
  for (const { part, megabytes } of [{ part: 'log', megabytes: 48 }, { part: 'blobs', megabytes: 24 }, { part: 'clickhouse', megabytes: 128 }]) {
    test(`of ${part}: devices keep what was not acknowledged, and nothing is lost`, async () => {
      const at = folder()
      const mount = join(at, 'data', part)
      mkdirSync(mount, { recursive: true })
      expect(spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m`, 'tmpfs', mount]).status).toBe(0)
      const scene = await underLoad({ random: seeded(seed) }, { at }).finally(() => onTestFinished(() => { spawnSync('umount', ['-l', mount]) }))
      const times = long ? 5 : 1
      for (let i = 0; i < times; i++) {
        await delay(500)
        fill(join(mount, 'ballast'))
        if (part === 'log') {
          const refused = scene.devices.answers.get(503) ?? 0
          await until(() => (scene.devices.answers.get(503) ?? 0) > refused, 'ingest says 503 while its log is full')
        }
        await delay(1_500)
        rmSync(join(mount, 'ballast'))
      }
      expect(scene.overrun.pid, scene.overrun.said).not.toBeNull()
      const { seconds, counted } = await recovered(scene)
      judge(`disk full: ${part}`, { times, devices: scene.devices, counted, seconds })
    }, long ? 300_000 : 90_000)
  }
})

/** Until there is not a byte left. */
function fill(path: string): void {
  const file = openSync(path, 'a')
  for (let block = Buffer.alloc(1024 * 1024); block.length > 0;) {
    try {
      writeSync(file, block)
    } catch {
      block = block.subarray(0, block.length >> 1)
    }
  }
  closeSync(file)
}

const traceable = canTrace()
test.skipIf(!traceable)(`a sync that fails ends the process at once, and nothing acknowledged is lost${traceable ? '' : ' (no strace, or tracing is not allowed here)'}`, async () => {
  const times = long ? 10 : 1
  const scene = await underLoad({ random: seeded(seed) })
  const { overrun, devices } = scene
  for (let i = 0; i < times; i++) {
    await until(() => devices.acknowledged.size > 20 * i, 'devices are served')
    const tracer = spawn('strace', ['-f', '-qq', '-p', String(overrun.pid), '-P', join(overrun.directory, 'log', 'entries', 'data.mdb'), '-e', 'trace=fdatasync', '-e', 'inject=fdatasync:error=EIO'], { stdio: 'ignore' })
    // Its exit may be held up by a thread in mid-write; then it is made to.
    expect(await overrun.gone).toMatch(/^(exit code 74|SIGKILL)$/)
    expect(overrun.said).toContain('Look at the disk, then start again')
    if (tracer.exitCode === null && tracer.signalCode === null) await once(tracer, 'exit')
    await overrun.start()
  }
  const { seconds, counted } = await recovered(scene)
  judge('fsync EIO', { times, devices, counted, seconds })
}, long ? 300_000 : 90_000)

test('changed bytes in the log end as dead letters, one each, and the crashes around them are counted', async () => {
  const scene = await unread(40)
  const { overrun, devices } = scene
  const file = join(overrun.directory, 'log', 'entries', 'data.mdb')
  const content = readFileSync(file)
  const handle = openSync(file, 'r+')
  // Every second dump that lies there; a page that lmdb has copied lies there twice, and only one of them is read.
  for (let at = content.indexOf('heap-buffer-overflow'), n = 0; at >= 0; at = content.indexOf('heap-buffer-overflow', at + 1), n++) {
    if (n % 2 === 0) writeSync(handle, Buffer.from('H'), 0, 1, at)
  }
  closeSync(handle)
  await overrun.start()
  const damaged = async () => (await overrun.api<{ items: { slug: string }[] }>('/dead-letters?limit=200')).items.filter(({ slug }) => slug === 'message-damaged' || slug === 'checksum-mismatch').length
  await until(async () => (await damaged()) + (await crashesOf(overrun)) >= devices.acknowledged.size, 'each is a crash or a dead letter', 60_000)
  expect(await damaged()).toBeGreaterThan(0)
  expect(await overrun.stop()).toBe('exit code 0')
  const counted = await overrun.counted()
  judge('log bytes flipped', { times: await Promise.resolve([...counted.letters.values()].reduce((sum, n) => sum + n, 0)), devices, counted, seconds: null })
}, 90_000)

test('a log that was cut short is not opened, and the start says what to do', async () => {
  const { overrun } = await unread(40)
  const file = join(overrun.directory, 'log', 'entries', 'data.mdb')
  const whole = readFileSync(file)
  truncateSync(file, Math.floor(statSync(file).size / 8192) * 4096)
  await expect(overrun.start()).rejects.toThrow(/data\.mdb.*(cut short|is not an lmdb file).*put/s)
  writeFileSync(file, whole)
  await overrun.start()
}, 90_000)

/** Killed with so many crashes in the log that no worker has read: the engine is frozen meanwhile. */
async function unread(count: number) {
  const scene = await underLoad({ random: seeded(seed), dumps: undefined, repeats: 0 })
  const { overrun, devices } = scene
  await devices.stop()
  await until(async () => (await crashesOf(overrun)) >= devices.acknowledged.size, 'what came before is counted')
  overrun.signal('SIGSTOP', /clickhouse\/engine\.ts/)
  await devices.send(count)
  await overrun.kill()
  return scene
}
