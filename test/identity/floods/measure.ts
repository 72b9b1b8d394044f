import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { createFleet } from '../../../ingest/device/fleet.ts'
import { startIngestProcess } from '../../ingest/ingest-process.ts'
import type { FloodName } from './floods.ts'
import { sendNormally, type Heard } from './normal.ts'
import type { FloodOrder, FromFlood } from './worker.ts'

/** Normal devices beside each flood in turn, against one ingest process with its default limits and quotas. */
export interface Measured { flood: FloodName | 'quiet'; normal: Heard; peakBytes: number; answers: Record<string, number> }

export async function measureFloods({ floods, size, devices, perSecond, ms, say }: {
  floods: readonly FloodName[]
  /** 1 is the whole flood. */
  size: number
  devices: number
  perSecond: number
  ms: number
  say?: (measured: Measured) => void
}): Promise<Measured[]> {
  const data = await mkdtemp(join(tmpdir(), 'floods-'))
  const fleet = createFleet({ devices: devices + floods.length, name: 'normal', now: Date.now() })
  const server = await startIngestProcess(fleet, { data, ingest: { quotas: {} } })
  const port = Number(new URL(server.url).port)
  const normal = fleet.devices.slice(0, devices)
  let boot = 1
  const send = () => sendNormally({ port, devices: normal, boot: boot++, perSecond, ms })
  const measured: Measured[] = []
  const keep = (one: Measured) => {
    measured.push(one)
    say?.(one)
  }
  try {
    await sendNormally({ port, devices: normal, boot: boot++, perSecond, ms: ms / 2 })
    keep({ flood: 'quiet', ...await weighed(server, send), answers: {} })
    for (const [i, flood] of floods.entries()) {
      const { keyPem, chain } = fleet.devices[devices + i]!
      const { certificate, name } = fleet.intermediate
      const workerData: FloodOrder = { name: flood, port, size, intermediate: { certificate, name }, device: { keyPem, chain } }
      const worker = new Worker(new URL('./worker.ts', import.meta.url), { workerData })
      await once(worker, 'message')
      const done = once(worker, 'message') as Promise<[FromFlood & { kind: 'done' }]>
      worker.postMessage('go')
      const seen = await weighed(server, send)
      worker.postMessage('stop')
      const [{ answers }] = await done
      keep({ flood, ...seen, answers })
    }
    return measured
  } finally {
    await server.kill()
    await rm(data, { recursive: true })
  }
}

/** The most memory that the server had meanwhile. */
async function weighed(server: { memory(): { resident: number } }, work: () => Promise<Heard>): Promise<{ normal: Heard; peakBytes: number }> {
  let peakBytes = server.memory().resident
  const timer = setInterval(() => { peakBytes = Math.max(peakBytes, server.memory().resident) }, 100)
  try {
    return { normal: await work(), peakBytes }
  } finally {
    clearInterval(timer)
  }
}
