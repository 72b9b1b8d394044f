import type { Logger } from '../../infra/service/logger.ts'
import { messageOf } from '../../infra/service/errors.ts'
import { startWarden, type Asked, type JobEnd, type Warden, type WardenOptions } from './warden.ts'
import type { Order } from './wire.ts'

/**
 * A few children, and who waits for whom: one poisonous dump delays no other device.
 *
 * Every job starts on the fast lane. When it has run for `patienceMs` it is slow: whoever waits for it is told, and it
 * may go on as long as one child is left for the others. When none is left, it is killed and waits in the slow lane for
 * its second and last try with the whole time budget. So a stream of poison costs each fresh dump `patienceMs` at most,
 * and no poison is given up before it had `timeMs` of its own.
 */
export interface PoolOptions extends WardenOptions {
  size: number
  /** The child's own time for one job, ms. */
  timeMs: number
  patienceMs: number
  /** A child that has been idle for so long is ended and started again when needed; null keeps it. */
  idleMs: number | null
  /** Jobs after which a child is replaced. */
  jobsPerChild?: number
  logger: Logger
  onKill(why: string): void
}

export interface Ticket {
  /** Rejects only when the world is broken (symbols can't be looked up, children can't be started). */
  end: Promise<PoolEnd>
  /** Resolves when the job has become slow; may never. */
  slow: Promise<void>
}
export type PoolEnd = Exclude<JobEnd, { t: 'broken' } | { t: 'killed' }> | { t: 'killed'; why: 'time' | 'memory' | 'protocol' | 'died'; reason: string }

export interface Pool {
  /** `order` is made only when a child is free, so that waiting jobs hold no bytes. */
  run(order: () => Promise<Order>, asked: Asked): Ticket
  /** Rejects when children can't be started. */
  ready(): Promise<void>
  pids(): number[]
  stop(): Promise<void>
}

interface Task { order(): Promise<Order>; asked: Asked; resolve(end: PoolEnd): void; reject(error: unknown): void; becameSlow(): void; deaths: number }
interface Slot { warden: Warden | null; successor: Warden | null; ripe: boolean; task: Task | null; impatient: boolean; late: boolean; jobs: number; busyMs: number; idle: NodeJS.Timeout | null }

/**
 * A child is replaced after so much work: whatever leaks, leaks for a while only, and no honest child meets its limit of
 * processor time. To start one costs as much as 500 ordinary dumps (most of it for loading TypeScript): at 1,000 jobs each
 * that was a third of all the work.
 */
const JOBS_PER_CHILD = 10_000
const BUSY_MS_PER_CHILD = 60_000
const RESTART_MS = 500

export function createPool(options: PoolOptions): Pool {
  const slots: Slot[] = Array.from({ length: options.size }, () => ({ warden: null, successor: null, ripe: false, task: null, impatient: false, late: false, jobs: 0, busyMs: 0, idle: null }))
  const maxLate = Math.max(1, options.size - 1)
  const fresh: Task[] = []
  const slow: Task[] = []
  const { jobsPerChild = JOBS_PER_CHILD } = options
  let stopped = false

  const lateCount = () => slots.filter((slot) => slot.late).length

  function dispatch() {
    if (stopped) return
    for (const slot of slots) {
      if (slot.task !== null) continue
      const late = slow.length > 0 && lateCount() < maxLate
      const task = late ? slow.shift() : fresh.shift()
      if (task === undefined) return
      Object.assign(slot, { task, late, impatient: false })
      void serve(slot, task)
    }
    if (fresh.length === 0) return
    const victim = slots.find((slot) => slot.impatient && !slot.late)
    victim?.warden?.kill('preempted', 'slow, and others wait')
  }

  async function serve(slot: Slot, task: Task) {
    let patience: NodeJS.Timeout | undefined
    try {
      if (slot.idle !== null) clearTimeout(slot.idle)
      const [warden, order] = await Promise.all([awake(slot), task.order()])
      patience = setTimeout(() => {
        task.becameSlow()
        slot.impatient = true
        if (!slot.late && lateCount() < maxLate) slot.late = true
        dispatch()
      }, options.patienceMs)
      const began = performance.now()
      const end = await warden.run(order, task.asked, options.timeMs)
      slot.jobs++
      slot.busyMs += performance.now() - began
      settle(task, end)
    } catch (error) {
      task.reject(error)
    } finally {
      clearTimeout(patience)
      Object.assign(slot, { task: null, late: false, impatient: false })
      if (slot.ripe) succeed(slot)
      else if (slot.jobs >= jobsPerChild || slot.busyMs >= BUSY_MS_PER_CHILD) replace(slot)
      if (options.idleMs !== null) slot.idle = setTimeout(() => slot.warden?.kill('preempted', 'idle'), options.idleMs).unref()
      dispatch()
    }
  }

  function settle(task: Task, end: JobEnd) {
    if (end.t === 'broken') return task.reject(end.error)
    if (end.t !== 'killed') return task.resolve(end)
    if (stopped) return task.reject(new Error('the pool was stopped'))
    if (end.why === 'preempted') return void slow.push(task)
    options.onKill(end.why)
    // The first death may be the machine's doing (out of memory, an operator); the second is the dump's.
    if (end.why === 'died' && ++task.deaths < 2) return void fresh.unshift(task)
    task.resolve({ t: 'killed', why: end.why, reason: end.reason })
  }

  /** A started child; starts one as often as it takes, since a dump is never to blame for a child that can't start. */
  async function awake(slot: Slot): Promise<Warden> {
    for (let attempt = 1; ; attempt++) {
      if (stopped) throw new Error('the pool was stopped')
      const warden = slot.warden === null || slot.warden.doomed ? start(slot) : slot.warden
      try {
        await warden.ready
        if (slot.warden === warden) return warden
      } catch (error) {
        options.logger.error({ stage: 'sandbox', attempt, reason: messageOf(error) }, 'a parser could not be started')
        await new Promise((resolve) => setTimeout(resolve, RESTART_MS * Math.min(attempt, 20)))
      }
    }
  }

  /** The successor is ready before the old child goes, one at a time: a start takes as long as a hundred dumps. */
  function replace(slot: Slot) {
    if (stopped || slots.some(({ successor }) => successor !== null)) return
    const successor = startWarden(options)
    slot.successor = successor
    successor.ready.then(() => {
      slot.ripe = true
      if (slot.task === null) succeed(slot)
    }, (error: unknown) => {
      slot.successor = null
      if (!stopped) options.logger.error({ stage: 'sandbox', reason: messageOf(error) }, 'a parser could not be replaced; the old one goes on')
    })
  }

  function succeed(slot: Slot) {
    const { warden, successor } = slot
    if (successor === null || stopped) return
    Object.assign(slot, { successor: null, ripe: false })
    serveBy(slot, successor)
    warden?.kill('preempted', 'served long enough')
  }

  function start(slot: Slot): Warden {
    return serveBy(slot, startWarden(options))
  }

  function serveBy(slot: Slot, warden: Warden): Warden {
    Object.assign(slot, { warden, jobs: 0, busyMs: 0 })
    void warden.gone.then(() => {
      if (slot.warden === warden) slot.warden = null
    })
    return warden
  }

  return {
    run(order, asked) {
      const slowly = Promise.withResolvers<void>()
      const end = new Promise<PoolEnd>((resolve, reject) => {
        fresh.push({ order, asked, resolve, reject, becameSlow: slowly.resolve, deaths: 0 })
      })
      dispatch()
      return { end, slow: slowly.promise }
    },
    async ready() {
      await Promise.all(slots.map((slot) => (slot.warden ?? start(slot)).ready))
    },
    pids: () => slots.flatMap(({ warden, successor }) => [warden, successor].flatMap((child) => child?.pid ?? [])),
    async stop() {
      stopped = true
      for (const task of [...fresh.splice(0), ...slow.splice(0)]) task.reject(new Error('the pool was stopped'))
      await Promise.all(slots.map((slot) => {
        if (slot.idle !== null) clearTimeout(slot.idle)
        const children = [slot.warden, slot.successor].filter((child) => child !== null)
        for (const child of children) child.kill('preempted', 'the pool was stopped')
        return Promise.all(children.map((child) => child.gone))
      }))
    },
  }
}
