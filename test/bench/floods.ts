import { FLOOD_NAMES } from '../identity/floods/floods.ts'
import { measureFloods } from '../identity/floods/measure.ts'
import type { Figure } from './bench.ts'

/** What floods cost those who do nothing wrong. The sender of the flood has the same two cores as the server. */
export const name = 'floods'
export const describe = '100 normal devices sending 100 signed 20 KiB crashes/s beside each flood, one ingest process, 10 s each'

export async function run(print: (figure: Figure) => void): Promise<void> {
  let quiet = NaN
  const measured = await measureFloods({
    floods: FLOOD_NAMES, size: 1, devices: 100, perSecond: 100, ms: 10_000,
    say({ flood, normal, peakBytes, answers }) {
      if (flood === 'quiet') quiet = normal.p99
      print({ name: `${flood}: accepted`, value: (100 * normal.accepted) / normal.sent, unit: '% of normal' })
      print({ name: `${flood}: p50`, value: normal.p50, unit: 'ms' })
      print({ name: `${flood}: p99`, value: normal.p99, unit: 'ms', ...(flood === 'quiet' ? {} : { baseline: quiet, ratio: normal.p99 / quiet, aim: 2 }) })
      print({ name: `${flood}: peak memory`, value: peakBytes / 2 ** 20, unit: 'MiB' })
      for (const [status, times] of Object.entries(answers)) print({ name: `${flood}: ${status === 'held' ? 'connections held' : `answers ${status === '0' ? 'none' : status}`}`, value: times, unit: '' })
    },
  })
  const refused = measured.filter(({ normal }) => normal.accepted < normal.sent)
  if (refused.length > 0) throw new Error(`normal devices were refused beside: ${refused.map(({ flood }) => flood).join(', ')}`)
}
