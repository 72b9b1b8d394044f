import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { seeded } from './devices.ts'
import { judge } from './oracle.ts'
import { long, recovered, seed, underLoad } from './scenario.ts'

/**
 * kill -9 at random moments under load: of everything at once, of the engine alone, of the parsers alone. Whatever was
 * acknowledged counts once. OVERRUN_FAULTS_LONG=1 kills far more often, OVERRUN_FAULTS_SEED repeats a run.
 */
const PARTS: Record<string, RegExp | undefined> = { everything: undefined, engine: /clickhouse\/engine\.ts/, parsers: /sandbox\/child\.ts/ }

for (const [name, part] of Object.entries(PARTS)) {
  test(`kill -9 of ${name} at random moments loses and doubles nothing (seed ${seed})`, async () => {
    const random = seeded(seed)
    const kills = long ? 40 : 2
    const scene = await underLoad({ random })
    for (let i = 0; i < kills; i++) {
      await delay(random() * 1_500)
      await scene.overrun.kill(part)
      if (part === undefined) await scene.overrun.start()
    }
    const { seconds, counted } = await recovered(scene)
    judge(`kill -9 of ${name}`, { times: kills, devices: scene.devices, counted, seconds })
    expect(counted.standings).toEqual(new Set(['counted']))
  }, long ? 600_000 : 120_000)
}
