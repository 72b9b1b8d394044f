import { createPrivateKey } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { postReport } from '../../../ingest/device/post.ts'
import { signReport } from '../../../ingest/device/sign.ts'

/**
 * Devices that crash at a steady pace, whatever the server does: each report leaves at its own time, is never sent again,
 * and its answer is noted with its time.
 */
export interface LoadPlan {
  url: string
  perSecond: number
  reports: number
  firstBoot: number
  devices: { keyPem: string; chain: string[] }[]
  /** Base64. */
  dumps: string[]
}
export interface Acknowledged { id: string; at: number }
/** Each acknowledged report is told at once; `done` follows the last. */
export type Told = { kind: 'acknowledged'; report: Acknowledged }
export type FromLoad = { kind: 'done'; acknowledged: Acknowledged[]; refusals: string[]; elapsedMs: number }

process.once('message', (plan: LoadPlan) => void send(plan).then((done) => process.send!(done, () => process.exit(0))))

async function send({ url, perSecond, reports, firstBoot, devices, dumps }: LoadPlan): Promise<FromLoad> {
  const keys = devices.map(({ keyPem, chain }) => ({ key: createPrivateKey(keyPem), chain: chain.map((der) => Buffer.from(der, 'base64')) }))
  const files = dumps.map((dump) => Buffer.from(dump, 'base64'))
  const acknowledged: Acknowledged[] = []
  const refusals: string[] = []
  const answers: Promise<void>[] = []
  const started = performance.now()
  for (let n = 0; n < reports; n++) {
    await delay(Math.max(0, started + (n * 1000) / perSecond - performance.now()))
    const { key, chain } = keys[n % keys.length]!
    const { body } = signReport({
      dump: files[n % files.length]!, contentType: 'application/x-minidump', key, chain,
      claims: { bootcount: firstBoot + Math.floor(n / keys.length), seq: 0, uptimeSeconds: 1000, swversion: '4.2.1', compartment: 'sensor-bus', layer: 'app' },
    })
    answers.push(postReport({ url, body, retries: 0, timeoutMs: 30_000 }).then((posted) => {
      if (posted.kind === 'answered' && posted.status === 202) {
        const report = { id: (JSON.parse(posted.text) as { id: string }).id, at: Date.now() }
        acknowledged.push(report)
        process.send!({ kind: 'acknowledged', report } satisfies Told)
      } else refusals.push(posted.kind === 'answered' ? `${posted.status} ${posted.text}` : posted.reason)
    }))
  }
  await Promise.all(answers)
  return { kind: 'done', acknowledged, refusals, elapsedMs: performance.now() - started }
}
