import { createHash, generateKeyPairSync, randomBytes } from 'node:crypto'
import { connect, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { AT, basicConstraints, extendedKeyUsage, issueCertificate, keyUsage } from '../../../ingest/device/issue.ts'
import { createFleet, type Fleet, type FleetDevice } from '../../../ingest/device/fleet.ts'
import { signReport } from '../../../ingest/device/sign.ts'
import { bstr, list, tstr } from '../../ingest/forge.ts'
import { openLine, requestOf } from './http.ts'

/** Each is prepared, which may take a while, and then runs until it is told to stop; `size` scales it down for tests. */
export interface Flooding {
  /** Answers by status; 0 is a broken connection. */
  run(stop: AbortSignal): Promise<Record<number, number>>
}
export interface World { port: number; fleet: Fleet; /** A device of the fleet that is not among the normal ones. */ device: FleetDevice; size: number }
export type Flood = (world: World) => Flooding

/** 127.0.0.2 to .251: strangers never share an address with the normal devices, but they do share their /24. */
const strangersAddress = (i: number): string => `127.0.0.${2 + (i % 250)}`
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2'

export const FLOODS = {
  'one device, 1,000 requests/s': ({ port, device, size }) => {
    const perSecond = 1000 * size
    const requests = Array.from({ length: Math.ceil(perSecond * 12) }, (_, i) => {
      const claims = { bootcount: 1, seq: i }
      return requestOf('/v1/crashes', 'application/cbor-seq', signReport({ dump: randomBytes(1024), contentType: 'application/x-minidump', claims, key: device.key, chain: device.chain }).body)
    })
    return asked(port, 32, () => '127.0.0.1', (i) => requests[i % requests.length]!, perSecond)
  },

  '10,000 unknown chains, as fast as it goes': ({ port, fleet, size }) => {
    const stranger = createFleet({ devices: 0, name: 'stranger', now: Date.now() })
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const requests = Array.from({ length: 10_000 * size }, (_, i) => {
      // Every other one names the fleet's own CA as its issuer, so that only the signature shows the forgery.
      const by = i % 2 === 0 ? stranger.intermediate : { ...fleet.intermediate, key: privateKey }
      const leaf = issueCertificate({
        subject: [[AT.serialNumber, `x-${i}`]], issuer: by.name, publicKey, signingKey: by.key, notBefore: Date.now() - 1000, notAfter: Date.now() + 1e9,
        extensions: [basicConstraints(false), keyUsage('digitalSignature'), extendedKeyUsage(CLIENT_AUTH)],
      })
      return requestOf('/v1/crashes', 'application/cbor-seq', signReport({ dump: Buffer.from('x'), contentType: 'text/plain', claims: { bootcount: 1, seq: i }, key: privateKey, chain: [leaf, by.certificate] }).body)
    })
    return asked(port, 64, strangersAddress, (i) => requests[i % requests.length]!)
  },

  'slow bodies, 1 byte/s each': ({ port, size }) => connections(port, 1000 * size, async (sockets, stop) => {
    for (const socket of sockets) socket.write('POST /v1/crashes HTTP/1.1\r\nHost: flood\r\nContent-Type: application/cbor-seq\r\nContent-Length: 8000\r\n\r\n\xd2\x84\x59\x10\x00', 'latin1')
    while (!stop.aborted) {
      await delay(1000, undefined, { signal: stop }).catch(() => {})
      for (const socket of sockets) if (!socket.destroyed) socket.write('x')
    }
  }),

  '5,000 idle sockets': ({ port, size }) => connections(port, 5000 * size, async (_, stop) => {
    await new Promise((resolve) => stop.addEventListener('abort', resolve, { once: true }))
  }),

  'gzip bombs, 1 MiB to 1 GiB': ({ port, size }) => {
    const form = Buffer.concat([Buffer.from('--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n'), Buffer.alloc(2 ** 30 * size)])
    const request = requestOf('/submit', 'multipart/form-data; boundary=b', gzipSync(form), 'Content-Encoding: gzip\r\n')
    return asked(port, 16, strangersAddress, () => request)
  },

  'zstd bombs in signed dumps, and as Content-Encoding': ({ port, device, size }) => {
    // RFC 8878: a frame of 1 GiB, as blocks of 128 KiB that each say one byte and how often.
    const bomb = Buffer.concat([Buffer.from('28b52ffd80', 'hex'), Buffer.from([0, 0, 0, 0x40]), ...Array.from({ length: 8192 }, (_, i) => Buffer.from([(i === 8191 ? 1 : 0) | 2, 0, 0x10, 0]))])
    const signed = Array.from({ length: Math.ceil(60 * size) }, (_, i) => requestOf('/v1/crashes', 'application/cbor-seq', signReport({
      dump: Buffer.concat([bomb, Buffer.of(i)]), contentType: 'application/x-minidump', claims: { bootcount: 2, seq: i, encoding: 'zstd' }, key: device.key, chain: device.chain,
    }).body))
    const encoded = requestOf('/submit', 'multipart/form-data; boundary=b', bomb, 'Content-Encoding: zstd\r\n')
    return asked(port, 16, strangersAddress, (i) => (i % 2 === 0 ? encoded : signed[(i >> 1) % signed.length]!))
  },

  'CBOR 42 deep': ({ port }) => {
    const deep = Buffer.concat([Buffer.alloc(42, 0x81), Buffer.of(0)])
    const digest = createHash('sha256').update('x').digest()
    const protectedBytes = Buffer.concat([Buffer.of(0xa1, 1), deep])
    const inside = Buffer.concat([Buffer.of(0xd2), list(bstr(protectedBytes), Buffer.of(0xa0), bstr(digest), bstr(Buffer.alloc(64))), bstr(Buffer.from('x'))])
    const outside = Buffer.concat([Buffer.of(0xd2), deep, tstr('x')])
    const requests = [inside, outside].map((body) => requestOf('/v1/crashes', 'application/cbor-seq', body))
    return asked(port, 16, strangersAddress, (i) => requests[i % 2]!)
  },
} as const satisfies Record<string, Flood>
export type FloodName = keyof typeof FLOODS
export const FLOOD_NAMES = Object.keys(FLOODS) as FloodName[]

/** So many lines, each with one request under way; all together at this pace, or as fast as answers come. */
function asked(port: number, lines: number, addressOf: (i: number) => string, requestAt: (i: number) => Uint8Array, perSecond = Infinity): Flooding {
  return {
    async run(stop) {
      const answers: Record<number, number> = {}
      const started = performance.now()
      let next = 0
      await Promise.all(Array.from({ length: lines }, async (_, line) => {
        // A line is opened anew now and then, so that all addresses have their turn.
        for (let opened = 0; !stop.aborted; opened++) {
          const open = openLine(port, addressOf(line + opened * lines))
          for (let i = 0; i < 40 && !stop.aborted; i++) {
            const mine = next++
            if (perSecond !== Infinity) await delay(Math.max(0, started + (mine * 1000) / perSecond - performance.now()))
            const status = await open.ask(requestAt(mine))
            answers[status] = (answers[status] ?? 0) + 1
            if (status === 0) await delay(5)
          }
          open.close()
        }
      }))
      return answers
    },
  }
}

/** Connections that are opened and held; what they do is up to `work`. */
function connections(port: number, count: number, work: (sockets: Socket[], stop: AbortSignal) => Promise<void>): Flooding {
  return {
    async run(stop) {
      const sockets: Socket[] = []
      const answers: Record<number, number> = {}
      for (let i = 0; i < count && !stop.aborted; i++) {
        const socket = connect({ port, host: '127.0.0.1', localAddress: strangersAddress(i) })
        socket.on('error', () => {})
        socket.on('data', (chunk: Buffer) => {
          const status = Number(/^HTTP\/1\.1 (\d+)/.exec(chunk.toString('latin1'))?.[1] ?? 0)
          answers[status] = (answers[status] ?? 0) + 1
        })
        sockets.push(socket)
        if (i % 100 === 99) await delay(2)
      }
      await work(sockets, stop)
      for (const socket of sockets) socket.destroy()
      return { ...answers, held: sockets.length } as Record<number, number>
    },
  }
}
