import { randomBytes } from 'node:crypto'
import type { Clock } from '../infra/service/clock.ts'
import { messageOf } from '../infra/service/errors.ts'
import type { Logger } from '../infra/service/logger.ts'
import type { Append } from './append.ts'
import { encodeRefused, type Refused } from './contract.ts'
import type { Sender } from './throttle.ts'

/**
 * What a quota keeps out, and what comes from a device that was shut out, is still counted, with its digest: a storm is a signal, and one that only made us deaf would be
 * an attacker's friend. Only proven senders come here, so no stranger can write into somebody's summary.
 *
 * Every `summaryMs` each device with refused reports becomes one message of the log, however many reports it was; a
 * message that fails is offered again under the same id, so nothing is counted twice. Memory is bounded: so many devices
 * and so many digests of each, the rest in sums. A kill loses the counts of one interval at most.
 */
export interface RefusedReports {
  /** `digest` is absent where the dump is read only after the quota is asked. */
  count(sender: Sender, slug: Refused['slug'], digest: string | undefined): void
  start(): void
  /** Writes what is left. */
  stop(): Promise<void>
}

const SUBJECTS = 1_000
const DIGESTS = 16

interface Tally { fleet: string; deviceId: string; slug: Refused['slug']; firstAt: number; lastAt: number; reports: number; digests: Map<string, number> }

export function createRefusedReports({ append, clock, logger, summaryMs }: { append: Append; clock: Clock; logger: Logger; summaryMs: number }): RefusedReports {
  let tallies = new Map<string, Tally>()
  /** What was summed up and is not in the log yet. */
  let unsent: Refused[] = []
  let timer: NodeJS.Timeout | undefined
  let flushing: Promise<void> = Promise.resolve()

  async function flush(): Promise<void> {
    if (unsent.length === 0) {
      unsent = [...tallies.values()].map(summaryOf)
      tallies = new Map()
    }
    try {
      for (let next = unsent[0]; next !== undefined; next = unsent[0]) {
        await append(next, encodeRefused(next))
        unsent.shift()
      }
    } catch (error) {
      logger.warn({ slug: 'refused-unsent', summaries: unsent.length, reason: messageOf(error) }, 'what quotas kept out is not in the log yet')
    }
  }

  return {
    count({ fleet, deviceId }, slug, digest) {
      const at = clock.now()
      const key = `${fleet}\0${deviceId}\0${slug}`
      const known = tallies.has(key) || tallies.size < SUBJECTS
      const subject = known ? { key, deviceId } : { key: `${fleet}\0\0${slug}`, deviceId: '' }
      const tally = tallies.get(subject.key) ?? { fleet, deviceId: subject.deviceId, slug, firstAt: at, lastAt: at, reports: 0, digests: new Map() }
      tally.lastAt = at
      tally.reports += 1
      if (digest !== undefined && (tally.digests.has(digest) || tally.digests.size < DIGESTS)) tally.digests.set(digest, (tally.digests.get(digest) ?? 0) + 1)
      tallies.set(subject.key, tally)
    },
    start() {
      timer = setInterval(() => { flushing = flushing.then(flush) }, summaryMs)
      timer.unref()
    },
    async stop() {
      clearInterval(timer)
      await flushing
      await flush()
      if (tallies.size > 0) await flush()
    },
  }
}

const summaryOf = ({ digests, ...tally }: Tally): Refused => ({
  v: 1, type: 'refused', id: randomBytes(16).toString('hex'), ...tally, digests: [...digests].map(([digest, reports]) => ({ digest, reports })),
})
