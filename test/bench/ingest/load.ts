import { createPrivateKey } from 'node:crypto'
import { connect, type Socket } from 'node:net'
import { issueDevice, type Authority } from '../../../ingest/device/fleet.ts'
import { signReport } from '../../../ingest/device/sign.ts'

/** The load generator: raw keep-alive sockets, a request is two buffers, an answer is looked at and not parsed. */
export interface LoadPlan {
  url: string
  connections: number
  dumpBytes: number
  /** A window ends after this time or with the last report. */
  windowMs: number
  reports: number
  /** Left out, each connection sends again as soon as it is answered. Else a report is due at its time, and its latency counts from then. */
  perSecond?: number
  devices: { keyPem: string; chain: string[] }[]
  /** Issues the device of each report when `cold` ones are asked for. */
  issuer?: { name: Authority['name']; certificate: string; keyPem: string }
}
export type FromLoad = { kind: 'ready' } | { kind: 'signed' } | { kind: 'done'; acknowledged: number; failed: number; elapsedMs: number; p50: number; p99: number }

/** `cold`: each report comes from a device of its own, so that no chain has been seen before. */
type ToLoad = LoadPlan | { sign: number; cold: boolean } | 'go'

let plan: LoadPlan
let keys: { key: ReturnType<typeof createPrivateKey>; chain: Buffer[] }[] = []
let dump: Buffer
let counter = 0
/** What differs between reports: the request's head, the manifest and the first bytes of the dump. */
let heads: Buffer[] = []
const sockets: Socket[] = []
const tell = (message: FromLoad) => process.send!(message)

process.on('message', (message: ToLoad) => {
  if (message === 'go') return void runWindow().then(tell)
  if ('sign' in message) {
    heads = Array.from({ length: message.sign }, () => signOne(message.cold ? newcomer() : undefined))
    return tell({ kind: 'signed' })
  }
  plan = message
  keys = plan.devices.map(({ keyPem, chain }) => ({ key: createPrivateKey(keyPem), chain: chain.map((der) => Buffer.from(der, 'base64')) }))
  dump = Buffer.alloc(plan.dumpBytes, 'MDMP')
  void openSockets().then(() => tell({ kind: 'ready' }))
})

const UNLIKE = 8

function newcomer(): (typeof keys)[number] {
  const { name, certificate, keyPem } = plan.issuer!
  const by: Authority = { name, certificate: Buffer.from(certificate, 'base64'), pem: '', key: createPrivateKey(keyPem), keyPem }
  return issueDevice(by, `cold-${counter}`, 'p256', Date.now() - 86_400_000, Date.now() + 86_400_000)
}

function signOne({ key, chain } = keys[counter % keys.length]!): Buffer {
  dump.writeBigUInt64LE(BigInt(counter), 0)
  const seq = Math.floor(counter / keys.length)
  counter += 1
  const { body } = signReport({
    dump, contentType: 'application/x-minidump', key, chain,
    claims: { bootcount: 1 + Math.floor(seq / 16), seq: seq % 16, uptimeSeconds: 1000, swversion: '4.2.1', compartment: 'httpd', layer: 'app', buildId: 'c0ffee' },
  })
  const head = `POST /v1/crashes HTTP/1.1\r\nHost: bench\r\nContent-Type: application/cbor-seq\r\nContent-Length: ${body.length}\r\n\r\n`
  return Buffer.concat([Buffer.from(head), body.subarray(0, body.length - plan.dumpBytes + UNLIKE)])
}

async function openSockets(): Promise<void> {
  const { hostname, port } = new URL(plan.url)
  for (let i = 0; i < plan.connections; i++) {
    const socket = connect(Number(port), hostname)
    socket.setNoDelay(true)
    await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject))
    sockets.push(socket)
  }
}

async function runWindow(): Promise<FromLoad> {
  const tail = Buffer.from(dump.subarray(UNLIKE))
  const latencies: number[] = []
  const started = performance.now()
  let next = 0
  let failed = 0
  await Promise.all(sockets.map((socket) => new Promise<void>((resolve, reject) => {
    let sentAt = 0
    let heard = ''
    const send = () => {
      const due = plan.perSecond === undefined ? performance.now() : started + (next * 1000) / plan.perSecond
      const head = heads[next++]
      if (!head || due - started > plan.windowMs) {
        socket.removeAllListeners('data').removeAllListeners('error')
        return resolve()
      }
      sentAt = due
      const wait = due - performance.now()
      if (wait > 1) setTimeout(write, wait, head)
      else write(head)
    }
    const write = (head: Buffer) => {
      socket.cork()
      socket.write(head)
      socket.write(tail)
      socket.uncork()
    }
    socket.on('error', reject)
    socket.on('data', (chunk) => {
      heard += chunk.toString('latin1')
      if (!heard.endsWith('}')) return
      if (heard.startsWith('HTTP/1.1 202')) latencies.push(performance.now() - sentAt)
      else failed += 1
      heard = ''
      send()
    })
    send()
  })))
  const elapsedMs = performance.now() - started
  latencies.sort((a, b) => a - b)
  const at = (share: number) => latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))] ?? NaN
  return { kind: 'done', acknowledged: latencies.length, failed, elapsedMs, p50: at(0.5), p99: at(0.99) }
}
