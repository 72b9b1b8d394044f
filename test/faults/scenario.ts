import { expect, onTestFinished } from 'vitest'
import { createDevices, type DeviceOptions, type Devices } from './devices.ts'
import { createEmbedded, type Embedded } from './embedded.ts'
import { recovery, type Counted } from './oracle.ts'

export const long = process.env.OVERRUN_FAULTS_LONG === '1'
export const seed = Number(process.env.OVERRUN_FAULTS_SEED ?? Math.floor(Math.random() * 2 ** 31))

export interface Scene { overrun: Embedded; devices: Devices }

/** One process with everything in it, devices that it trusts, and their load. */
export async function underLoad(options: Omit<DeviceOptions, 'urls'>, { at, env }: { at?: string; env?: Record<string, string> } = {}): Promise<Scene> {
  const overrun = await createEmbedded(at === undefined ? {} : { at })
  onTestFinished(() => overrun.remove())
  const devices = createDevices({ ...options, urls: () => [overrun.url] })
  await overrun.start(env)
  await overrun.trust(devices.fleet)
  devices.start()
  return { overrun, devices }
}

/** From the end of the fault: every report is acknowledged, every crash is counted; then the tables are read with nothing running. */
export async function recovered({ overrun, devices }: Scene, { dead = 0 } = {}): Promise<{ seconds: number; counted: Counted }> {
  const since = performance.now()
  await devices.stop()
  await recovery(() => crashesOf(overrun), (crashes) => crashes + dead >= devices.acknowledged.size)
  const seconds = (performance.now() - since) / 1000
  expect(await overrun.stop()).toBe('exit code 0')
  return { seconds, counted: await overrun.counted() }
}

/** As the API counts them. */
export async function crashesOf(overrun: Embedded): Promise<number> {
  const { items } = await overrun.api<{ items: { crashes: number }[] }>('/buckets?limit=200&from=2020-01-01T00:00:00Z')
  return items.reduce((sum, { crashes }) => sum + crashes, 0)
}

/** Asks until it is so; for what must happen during a fault. */
export async function until(condition: () => boolean | Promise<boolean>, what: string, limitMs = 30_000): Promise<void> {
  for (const deadline = performance.now() + limitMs; !(await condition());) {
    if (performance.now() > deadline) throw new Error(`never happened: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}
