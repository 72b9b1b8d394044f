import { hash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { BlockList, isIPv6 } from 'node:net'
import { TLSSocket } from 'node:tls'
import type { Clock } from '../infra/service/clock.ts'
import { MAX_CERTIFICATES } from './chain.ts'
import { isRefusal, refuse, type Refusal } from './outcome.ts'
import type { Registry } from './registry.ts'
import type { Identity, Verifier } from './verify.ts'

/**
 * Who a connection is, for a report that is not signed itself. Three things vouch for a device, each weaker than a
 * signature over its dump, since the proof ends with the connection:
 *
 *   its certificate in the TLS handshake, whose key the handshake proves
 *   the header Client-Cert (RFC 9440) of a proxy that ended the TLS, by its address; from anybody else it is not there
 *   the token of a gateway, which names the device in Crash-Device. A gateway can't speak for devices that have a key:
 *   its devices are called `gateway:NAME/DEVICE`
 *
 * A certificate is judged as in a manifest: the same path validation, lists, states of devices and issuers.
 */
export type Peer = Pick<Identity, 'fleet' | 'deviceId' | 'issuer' | 'keyProtection' | 'flags' | 'pending' | 'epoch'> & Partial<Pick<Identity, 'deviceKeyId' | 'anchor'>>

export interface Transport {
  /** Null: the connection says nothing about who it is. */
  peerOf(request: IncomingMessage): Peer | Refusal | null
  /** Where the request came from; what stands in front of a proxy, as that proxy says. */
  addressOf(request: IncomingMessage): string | undefined
}

export function createTransport({ verifier, registry, clock, proxies }: { verifier: Verifier; registry: Registry; clock: Clock; proxies: readonly string[] }): Transport {
  const isProxy = matcher(proxies)
  /** What the handshake showed: it never changes while the connection lasts. */
  const shown = new WeakMap<TLSSocket, Uint8Array[]>()

  function identify(chain: Uint8Array[]): Peer | Refusal {
    const anchors = new Set(registry.anchors().map(({ sha256 }) => sha256))
    const top = chain.at(-1)
    // Clients and proxies may send the anchor along, a manifest may not.
    const sent = chain.length > 1 && top !== undefined && anchors.has(hash('sha256', top, 'hex')) ? chain.slice(0, -1) : chain
    return verifier.identify(sent, clock.now())
  }

  function gatewayPeer(token: string, device: string | undefined): Peer | Refusal {
    const gateway = registry.gatewayOf(hash('sha256', token, 'hex'))
    if (gateway === null) return refuse('gateway-unknown', 'no gateway has this token')
    const { fleet, name } = gateway
    if (device === undefined || !DEVICE_NAME.test(device)) return refuse('device-unnamed', 'the header Crash-Device is missing, longer than 128 characters, or has others than visible ASCII')
    const [issuer, deviceId] = [`gateway:${name}`, `gateway:${name}/${device}`]
    const status = registry.deviceStatus(fleet, deviceId)
    if (registry.issuerStatus(fleet, issuer) === 'disabled') return refuse('issuer-disabled', `the devices of ${issuer} are disabled`)
    if (status === 'revoked' || status === 'disabled') return refuse(`device-${status}`, `device ${deviceId} is ${status}`)
    return { fleet, deviceId, issuer, keyProtection: 'unknown', flags: [], pending: status === 'pending', epoch: registry.epochOf(fleet, deviceId) }
  }

  return {
    peerOf(request) {
      const { socket, headers } = request
      if (isProxy(socket.remoteAddress)) {
        if (headers['client-cert'] !== undefined) {
          const chain = headerChain(String(headers['client-cert']), headers['client-cert-chain'])
          return isRefusal(chain) ? chain : identify(chain)
        }
      } else if (socket instanceof TLSSocket) {
        const chain = shown.get(socket) ?? chainOf(socket)
        shown.set(socket, chain)
        if (chain.length > 0) return identify(chain)
      }
      const token = /^Bearer ([\w-]{20,256})$/.exec(headers.authorization ?? '')?.[1]
      return token === undefined ? null : gatewayPeer(token, oneOf(headers['crash-device']))
    },
    addressOf({ socket, headers }) {
      if (!isProxy(socket.remoteAddress)) return socket.remoteAddress
      // Each proxy appends whom it heard; what stands before the last entry is the sender's to invent.
      return oneOf(headers['x-forwarded-for'])?.split(',').at(-1)?.trim() ?? socket.remoteAddress
    },
  }
}

const DEVICE_NAME = /^[\x21-\x7e]{1,128}$/
const oneOf = (value: string | string[] | undefined): string | undefined => (Array.isArray(value) ? value.join(',') : value)

/** One certificate more than a path may have, so that one with its anchor fits and a longer one is seen to be too long. */
function chainOf(socket: TLSSocket): Uint8Array[] {
  const chain: Uint8Array[] = []
  for (let certificate = socket.getPeerX509Certificate(); certificate !== undefined && chain.length <= MAX_CERTIFICATES + 1; certificate = certificate.issuerCertificate) {
    chain.push(certificate.raw)
    if (certificate.subject === certificate.issuer) break
  }
  return chain
}

/** RFC 9440 2: a byte sequence (RFC 8941 3.3.5), and a list of them, from the leaf's issuer upwards. */
function headerChain(leaf: string, issuing: string | string[] | undefined): Uint8Array[] | Refusal {
  const items = [leaf, ...(oneOf(issuing)?.split(',') ?? [])].map((item) => /^\s*:([A-Za-z0-9+/]+={0,2}):\s*$/.exec(item)?.[1])
  if (items.length > MAX_CERTIFICATES + 1) return refuse('chain-malformed', `Client-Cert-Chain: ${items.length - 1} certificates`)
  const chain = items.flatMap((base64) => (base64 === undefined ? [] : [Buffer.from(base64, 'base64')]))
  return chain.length === items.length ? chain : refuse('chain-malformed', 'Client-Cert or Client-Cert-Chain is not byte sequences in colons')
}

/** Addresses, and networks as ADDRESS/BITS; config.ts has checked them. */
function matcher(networks: readonly string[]): (address: string | undefined) => boolean {
  if (networks.length === 0) return () => false
  const list = new BlockList()
  for (const network of networks) {
    const [address = '', bits] = network.split('/')
    const family = isIPv6(address) ? 'ipv6' : 'ipv4'
    if (bits === undefined) list.addAddress(address, family)
    else list.addSubnet(address, Number(bits), family)
  }
  return (address) => {
    const plain = address?.replace(/^::ffff:(?=\d+\.)/i, '')
    return plain !== undefined && list.check(plain, isIPv6(plain) ? 'ipv6' : 'ipv4')
  }
}
