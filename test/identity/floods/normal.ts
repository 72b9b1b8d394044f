import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { FleetDevice } from '../../../ingest/device/fleet.ts'
import { signReport } from '../../../ingest/device/sign.ts'
import { openLine, requestOf } from './http.ts'

/** Devices that behave: each sends its signed dumps at its own pace, whatever happens beside it. */
export interface Heard { sent: number; accepted: number; p50: number; p99: number; refused: Record<number, number> }

/** Latency counts from the moment at which a report was due, so that a stalled server can't hide behind a stalled sender. */
export async function sendNormally({ port, devices, boot, perSecond, ms, dumpBytes = 20 * 1024 }: {
  port: number
  devices: readonly FleetDevice[]
  /** The boot of all reports of this round; each is good once. */
  boot: number
  /** Of all devices together. */
  perSecond: number
  ms: number
  dumpBytes?: number
}): Promise<Heard> {
  const total = Math.ceil((perSecond * ms) / 1000)
  const requests = Array.from({ length: total }, (_, i) => {
    const { key, chain } = devices[i % devices.length]!
    const claims = { bootcount: boot, seq: Math.floor(i / devices.length), swversion: '4.2.1' }
    return requestOf('/v1/crashes', 'application/cbor-seq', signReport({ dump: randomBytes(dumpBytes), contentType: 'application/x-minidump', claims, key, chain }).body)
  })
  const lines = devices.map(() => openLine(port, '127.0.0.1'))
  const latencies: number[] = []
  const refused: Record<number, number> = {}
  const started = performance.now()
  await Promise.all(requests.map(async (request, i) => {
    const due = started + (i * 1000) / perSecond
    await delay(Math.max(0, due - performance.now()))
    const status = await lines[i % lines.length]!.ask(request)
    if (status === 202) latencies.push(performance.now() - due)
    else refused[status] = (refused[status] ?? 0) + 1
  }))
  for (const line of lines) line.close()
  latencies.sort((a, b) => a - b)
  const at = (share: number) => latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))] ?? NaN
  return { sent: total, accepted: latencies.length, p50: at(0.5), p99: at(0.99), refused }
}
