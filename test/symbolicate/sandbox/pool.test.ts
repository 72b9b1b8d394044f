import { existsSync, readdirSync, readlinkSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { afterEach, expect, test } from 'vitest'
import { createPool, type Pool, type PoolOptions } from '../../../symbolicate/sandbox/pool.ts'
import type { Order } from '../../../symbolicate/sandbox/wire.ts'
import { quietLogger, until } from '../../infra/clickhouse-fixture.ts'

const program = fileURLToPath(new URL('./hostile-child.ts', import.meta.url))
const pools: Pool[] = []
const kills: string[] = []

function hostilePool(options: Partial<PoolOptions> = {}): Pool {
  const pool = createPool({
    size: 1, timeMs: 5_000, patienceMs: 5_000, memoryBytes: 256 * 2 ** 20, answerBytes: 2 ** 20, idleMs: null, cacheDirectory: null,
    logger: quietLogger, onKill: (why) => kills.push(why), program, ...options,
  })
  pools.push(pool)
  return pool
}
const order = (deed: string) => async (): Promise<Order> => ({ t: 'analyse', bytes: Buffer.from(deed), contentType: 'text/plain', claims: {}, annotations: {}, inflateBytes: 1, generation: 0 })
const nobody = { symbols: async () => ({ status: 'missing' as const, reason: '' }), map: async () => null }
const run = (pool: Pool, deed: string) => pool.run(order(deed), nobody)
const said = async (pool: Pool, deed: string) => {
  const end = await run(pool, deed).end
  if (end.t !== 'refused') throw new Error(JSON.stringify(end))
  return JSON.parse(end.reason) as unknown
}

afterEach(async () => {
  await Promise.all(pools.splice(0).map((pool) => pool.stop()))
  kills.length = 0
})

test('a child that was taken over reads no file of the machine, writes none, starts nothing and sees no environment', async () => {
  expect(await said(hostilePool(), 'escape')).toEqual({
    read: 'ERR_ACCESS_DENIED', write: 'ERR_ACCESS_DENIED', spawn: 'ERR_ACCESS_DENIED', thread: 'ERR_ACCESS_DENIED', eval: expect.stringContaining('EvalError'), environment: 0,
  })
  expect(existsSync('/tmp/overrun-escaped')).toBe(false)
})

test.runIf(existsSync('/proc/self/fd'))('a child holds no descriptor but its two pipes and what its own event loop made', async () => {
  const pool = hostilePool()
  await pool.ready()
  const [pid] = pool.pids()
  const links = readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`).replace(/\d+/g, 'N'))
  const ordinary = ['pipe:[N]', 'socket:[N]', 'anon_inode:[eventpoll]', 'anon_inode:[io_uring]', 'anon_inode:[eventfd]', '/dev/null']
  expect(links.filter((link) => !ordinary.includes(link))).toEqual([])
  expect(links.filter((link) => link.startsWith('socket:')).length).toBeLessThanOrEqual(2)
})

test('a child that has served long enough is replaced by one that is ready, and no job is lost', async () => {
  const pool = hostilePool({ jobsPerChild: 2 })
  await pool.ready()
  const first = pool.pids()
  const served = async () => first.every((pid) => !pool.pids().includes(pid))
  for (let n = 0; !(await served()) || n < 20; n++) expect(await said(pool, 'ok')).toBe('ok')
  expect(kills).toEqual([])
  await pool.stop()
  await until(() => !first.some(isAlive), 'the first children are gone')
})

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

test('past its time a child is killed, and the next dump gets a new one', async () => {
  const pool = hostilePool({ timeMs: 300 })
  expect(await run(pool, 'spin').end).toMatchObject({ t: 'killed', why: 'time' })
  expect(await said(pool, 'ok')).toBe('ok')
  expect(kills).toEqual(['time'])
})

test.runIf(existsSync('/proc/self/status'))('past its memory a child is killed before it hurts the machine', async () => {
  expect(await run(hostilePool(), 'hog').end).toMatchObject({ t: 'killed', why: 'memory' })
})

test.each(['lie', 'garbage', 'huge', 'ask'])('an answer that is not of the agreed shape costs the child its life: %s', async (deed) => {
  const pool = hostilePool()
  expect(await run(pool, deed).end).toMatchObject({ t: 'killed', why: 'protocol' })
  expect(await said(pool, 'ok')).toBe('ok')
})

test('a child that speaks without a job is killed, and the job after it is served', async () => {
  const pool = hostilePool()
  expect(await said(pool, 'twice')).toBe('first')
  expect(await said(pool, 'ok')).toBe('ok')
})

test('a dump whose parser dies is tried once more and then given up', async () => {
  const pool = hostilePool()
  expect(await run(pool, 'die').end).toMatchObject({ t: 'killed', why: 'died', reason: 'parser ended by itself: exit code 7' })
  expect(kills).toEqual(['died', 'died'])
})

test('a child that somebody else kills costs no dump: the job is done by the next one', async () => {
  const pool = hostilePool()
  expect(await said(pool, 'ok')).toBe('ok')
  const [pid] = pool.pids()
  const ticket = run(pool, 'ok')
  process.kill(pid as number, 'SIGKILL')
  expect(await ticket.end).toMatchObject({ t: 'refused', reason: '"ok"' })
})

test('poison delays nobody else: the others are served while it runs out its time', async () => {
  const pool = hostilePool({ size: 2, timeMs: 1_500, patienceMs: 100 })
  const order: string[] = []
  const poison = Array.from({ length: 3 }, () => run(pool, 'spin').end.then((end) => order.push(end.t)))
  const good = Array.from({ length: 20 }, () => run(pool, 'ok').end.then((end) => order.push(end.t)))
  await Promise.all([...poison, ...good])
  expect(order).toEqual([...Array<string>(20).fill('refused'), 'killed', 'killed', 'killed'])
}, 30_000)

test('who waits for a slow dump is told so', async () => {
  const ticket = run(hostilePool({ timeMs: 500, patienceMs: 50 }), 'spin')
  expect(await Promise.race([ticket.slow.then(() => 'slow'), ticket.end.then(() => 'end')])).toBe('slow')
  expect(await ticket.end).toMatchObject({ t: 'killed', why: 'time' })
})

test('the time that the parent takes to look up symbols is not the child\'s', async () => {
  let asked = 0
  const pool = hostilePool({ timeMs: 300 })
  const map = async () => {
    asked++
    await new Promise((resolve) => setTimeout(resolve, asked === 1 ? 600 : 0))
    return null
  }
  expect(await pool.run(order('ask'), { ...nobody, map }).end).toMatchObject({ t: 'killed', why: 'protocol' })
})

test('a world in which symbols can\'t be looked up is not the dump\'s fault', async () => {
  const map = async () => { throw new Error('the store is away') }
  await expect(hostilePool().run(order('ask'), { ...nobody, map }).end).rejects.toThrow('the store is away')
})

test('a stopped pool leaves no child and no job behind', async () => {
  const pool = hostilePool()
  await pool.ready()
  const [pid] = pool.pids()
  const ticket = run(pool, 'spin')
  const ended = expect(ticket.end).rejects.toThrow('stopped')
  await pool.stop()
  await ended
  expect(() => process.kill(pid as number, 0)).toThrow('ESRCH')
})
