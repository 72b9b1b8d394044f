import { createPrivateKey } from 'node:crypto'
import { parentPort, workerData } from 'node:worker_threads'
import { FLOODS, type FloodName } from './floods.ts'
import type { Fleet, FleetDevice } from '../../../ingest/device/fleet.ts'

/** A flood in a thread of its own, so that it does not slow down the clock of those whose latency is measured. */
export interface FloodOrder {
  name: FloodName
  port: number
  size: number
  intermediate: { certificate: Uint8Array; name: Fleet['intermediate']['name'] }
  device: { keyPem: string; chain: Uint8Array[] }
}
export type FromFlood = { kind: 'ready' } | { kind: 'done'; answers: Record<number, number> }

const { name, port, size, intermediate, device } = workerData as FloodOrder
const flooding = FLOODS[name]({
  port, size,
  fleet: { intermediate: { ...intermediate, certificate: Buffer.from(intermediate.certificate) } } as Fleet,
  device: { key: createPrivateKey(device.keyPem), chain: device.chain.map((der) => Buffer.from(der)) } as FleetDevice,
})
const stop = new AbortController()
parentPort!.on('message', (word: 'go' | 'stop') => {
  if (word === 'stop') return stop.abort()
  void flooding.run(stop.signal).then((answers) => {
    parentPort!.postMessage({ kind: 'done', answers } satisfies FromFlood)
    parentPort!.close()
  })
})
parentPort!.postMessage({ kind: 'ready' } satisfies FromFlood)
