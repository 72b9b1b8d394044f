import { setTimeout as delay } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { createDevices, seeded } from './devices.ts'
import { createEmbedded, type Embedded } from './embedded.ts'
import { judge, recovery } from './oracle.ts'

/**
 * kill -9 at random moments under load: of everything at once, of the engine alone, of the parsers alone. Whatever was
 * acknowledged counts once. OVERRUN_FAULTS_LONG=1 kills far more often, OVERRUN_FAULTS_SEED repeats a run.
 */
const long = process.env.OVERRUN_FAULTS_LONG === '1'
const seed = Number(process.env.OVERRUN_FAULTS_SEED ?? Math.floor(Math.random() * 2 ** 31))

/** Command lines of the parts; undefined is all of them. */
const PARTS: Record<string, RegExp | undefined> = { everything: undefined, engine: /clickhouse\/engine\.ts/, parsers: /sandbox\/child\.ts/ }

for (const [name, part] of Object.entries(PARTS)) {
  test(`kill -9 of ${name} at random moments loses and doubles nothing (seed ${seed})`, async () => {
    const random = seeded(seed)
    const kills = long ? 30 : 2
    const { overrun, devices } = await underLoad(random)
    for (let i = 0; i < kills; i++) {
      await delay(random() * 1_500)
      await overrun.kill(part)
      if (part === undefined) await overrun.start()
    }
    const { seconds, counted } = await recovered(overrun, devices)
    judge(`kill -9 of ${name}`, { times: kills, devices, counted, seconds })
    expect(counted.standings).toEqual(new Set(['counted']))
  }, long ? 600_000 : 120_000)
}

async function underLoad(random: () => number) {
  const overrun = await createEmbedded()
  onTestFinished(() => overrun.remove())
  const devices = createDevices({ urls: () => [overrun.url], random })
  await overrun.start()
  await overrun.trust(devices.fleet)
  devices.start()
  return { overrun, devices }
}

async function recovered(overrun: Embedded, devices: ReturnType<typeof createDevices>) {
  await devices.stop()
  const wanted = devices.acknowledged.size
  const seconds = await recovery(() => crashesOf(overrun), (crashes) => crashes >= wanted)
  expect(await overrun.stop()).toBe('exit code 0')
  return { seconds, counted: await overrun.counted() }
}

async function crashesOf(overrun: Embedded): Promise<number> {
  const { items } = await overrun.api<{ items: { crashes: number }[] }>('/buckets?limit=200&from=2020-01-01T00:00:00Z')
  return items.reduce((sum, { crashes }) => sum + crashes, 0)
}
