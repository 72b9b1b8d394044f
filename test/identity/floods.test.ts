import { expect, test } from 'vitest'
import { FLOOD_NAMES } from './floods/floods.ts'
import { measureFloods } from './floods/measure.ts'

/**
 * Floods at a tenth or less of their size; `npm run bench -- floods`, and here OVERRUN_LONG=1, have them whole. What is held
 * here has nothing to do with time: every normal report is taken, and the server's memory stays bounded.
 */
const LONG = process.env.OVERRUN_LONG === '1'
const MIB = 2 ** 20

test('no flood harms a normal device, and memory stays bounded', async () => {
  const [quiet, ...floods] = await measureFloods({
    floods: FLOOD_NAMES, ...(LONG ? { size: 1, devices: 100, perSecond: 100, ms: 10_000 } : { size: 0.05, devices: 20, perSecond: 40, ms: 800 }),
  })
  expect(floods.map(({ flood }) => flood)).toEqual(FLOOD_NAMES)
  for (const { flood, normal, peakBytes, answers } of [quiet!, ...floods]) {
    expect([flood, normal.accepted, normal.refused]).toEqual([flood, normal.sent, {}])
    expect(peakBytes, flood).toBeLessThan(quiet!.peakBytes + 400 * MIB)
    if (flood === '10,000 unknown chains, as fast as it goes' || flood === 'CBOR 42 deep') expect([flood, answers['202'] ?? 0]).toEqual([flood, 0])
  }
  if (LONG) {
    const [one, chains] = floods
    expect(one!.answers['429']).toBeGreaterThan(1000)
    expect(chains!.answers['429']).toBeGreaterThan(1000)
  }
}, LONG ? 240_000 : 60_000)
