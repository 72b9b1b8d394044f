import { decode, encode } from 'cborg'
import { decodeMessage as decodeThisVersion, encodeAcceptedCrash as encodeThisVersion, type AcceptedCrash, type Decoded } from '../../ingest/contract.ts'

/**
 * A next version of the log's contract, for tests only, made as any next version has to be: it stands beside the old one,
 * both are read, only the new one is written. Here the device has a record of its own.
 */
export * from '../../ingest/contract.ts'

export function encodeAcceptedCrash(crash: AcceptedCrash): Uint8Array {
  const { v: _, deviceId, deviceKeyId, ...rest } = decode(encodeThisVersion(crash)) as AcceptedCrash
  return encode({ ...rest, v: 2, device: { id: deviceId, key: deviceKeyId } })
}

export function decodeMessage(message: Uint8Array): Decoded {
  const value = peek(message)
  if (value?.v !== 2) return decodeThisVersion(message)
  const { device, ...rest } = value
  return decodeThisVersion(encode({ ...rest, v: 1, deviceId: device.id, deviceKeyId: device.key }))
}

function peek(message: Uint8Array): { v: number; device: { id: string; key: string } } | null {
  try {
    return decode(message) as never
  } catch {
    return null
  }
}
