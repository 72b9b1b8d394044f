import { DerError, TAG, children, derOf, expectTag, oid, sequence, unsigned, type Der } from './der.ts'

/**
 * What a certificate made by DICE proves of its device (TCG DICE Attestation Architecture 1.1, 6.1): the key exists only
 * in a device that runs this firmware, so digest and security version are measured, not claimed.
 *
 *   DiceTcbInfo = SEQUENCE { [0] vendor, [1] model, [2] version, [3] svn INTEGER, [4] layer, [5] index,
 *                            [6] fwids SEQUENCE OF FWID, [7] flags, [8] vendorInfo, [9] type, ... }      all optional, in order
 *   FWID        = SEQUENCE { hashAlg OID, digest OCTET STRING }
 *   DiceUeid    = SEQUENCE { ueid OCTET STRING }
 */
export type TcbInfo = {
  /** Security version, also called anti-rollback counter. */
  svn?: number
  /** Digests of the firmware, in lower-case hex; `alg` by its name, or as OID where we know none. */
  fwids: { alg: string; digest: string }[]
}

const HASHES: Readonly<Record<string, { alg: string; bytes: number }>> = {
  '2.16.840.1.101.3.4.2.1': { alg: 'sha256', bytes: 32 },
  '2.16.840.1.101.3.4.2.2': { alg: 'sha384', bytes: 48 },
  '2.16.840.1.101.3.4.2.3': { alg: 'sha512', bytes: 64 },
}
const SVN = 0x83
const FWIDS = 0xa6
/** No digest is longer. */
const MAX_DIGEST = 64

/** Throws DerError. */
export function readTcbInfo(value: Uint8Array): TcbInfo {
  const fields = sequence(derOf(value, TAG.sequence))
  const numbers = fields.map(({ tag }) => tag & 0x1f)
  if (fields.some(({ tag }) => (tag & 0xc0) !== 0x80) || numbers.some((number, i) => number <= (numbers[i - 1] ?? -1))) {
    throw new DerError('TcbInfo is not a sequence of its fields in order')
  }
  const svn = fields.find(({ tag }) => tag === SVN)
  const fwids = fields.find(({ tag }) => tag === FWIDS)
  return { ...(svn && { svn: unsigned(svn, SVN) }), fwids: fwids === undefined ? [] : children(fwids).map(readFwid) }
}

function readFwid(element: Der): TcbInfo['fwids'][number] {
  const [algorithm, digest, ...rest] = sequence(element)
  if (rest.length > 0) throw new DerError('firmware digest with extra fields')
  const name = oid(algorithm)
  const { content } = expectTag(digest, TAG.octetString)
  const known = HASHES[name]
  if (content.length === 0 || content.length > MAX_DIGEST || (known && content.length !== known.bytes)) throw new DerError(`firmware digest of ${content.length} bytes`)
  return { alg: known?.alg ?? name, digest: Buffer.from(content).toString('hex') }
}

export const readUeid = (value: Uint8Array): Uint8Array => expectTag(sequence(derOf(value, TAG.sequence))[0], TAG.octetString).content
