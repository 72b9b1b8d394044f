import { setTimeout as delay } from 'node:timers/promises'
import type { LogBatch } from '../infra/log/log.ts'
import { BrokenWorld } from '../infra/service/errors.ts'

/**
 * Batches of several partitions are handled together. A block into `crashes` costs the engine 0.2 s of processor time for
 * its dozen views before its first row, and 0.5 ms a row; the questions before it cost 10 ms each, for one crash or for a
 * thousand: six partitions that each went by themselves would spend more on that than on their crashes.
 *
 * What comes while a convoy is under way leaves with the next one; at once, when it is a quarter of a whole one: when there
 * is much to do, one convoy is analysed while another is written. When a convoy fails, each of its batches is tried by
 * itself, so that what is wrong with one partition holds up no other.
 */
export interface ConvoyOptions {
  /** Most entries in one, unless one batch has more: its ids are sent to ClickHouse in an address of at most 1 MiB. */
  maxEntries: number
  isStopping: () => boolean
}

const CONVOYS = 2
/** Partitions that were fetched together ask within milliseconds of each other. */
const GATHER_MS = 10

export function createConvoy(handle: (batches: readonly LogBatch[]) => Promise<void>, { maxEntries, isStopping }: ConvoyOptions): (batch: LogBatch) => Promise<void> {
  const waiting: { batch: LogBatch; done: PromiseWithResolvers<void> }[] = []
  let drivers = 0

  async function drive(): Promise<void> {
    await delay(GATHER_MS)
    while (waiting.length > 0 && (drivers === 1 || entriesOf(waiting) * 4 >= maxEntries)) {
      const members = waiting.splice(0, fitting())
      if (isStopping()) {
        for (const { done } of members) done.reject(new BrokenWorld('stopped', 'the worker stops', { retryable: true }))
        continue
      }
      try {
        await handle(members.map(({ batch }) => batch))
        for (const { done } of members) done.resolve()
      } catch (error) {
        if (members.length === 1) members[0]!.done.reject(error)
        else for (const { batch, done } of members) await handle([batch]).then(done.resolve, done.reject)
      }
    }
    drivers--
  }

  const entriesOf = (members: typeof waiting) => members.reduce((sum, { batch }) => sum + batch.entries.length, 0)

  function fitting(): number {
    let entries = 0
    const over = waiting.findIndex(({ batch }) => (entries += batch.entries.length) > maxEntries)
    return over === -1 ? waiting.length : Math.max(1, over)
  }

  return (batch) => {
    const done = Promise.withResolvers<void>()
    waiting.push({ batch, done })
    if (drivers < CONVOYS) {
      drivers++
      void drive()
    }
    return done.promise
  }
}
