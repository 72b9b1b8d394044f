import { DerError, TAG, children, expectTag, oid, sequence, type Der } from './der.ts'

/**
 * Distinguished names (RFC 5280 4.1.2.4): how they are compared, the two attributes that name a device, and text for people.
 *
 *   Name = SEQUENCE OF SET OF SEQUENCE { type OID, value string }
 */
export type Attribute = { type: string; tag: number; value: Uint8Array }

const SHORT: Readonly<Record<string, string>> = {
  '2.5.4.3': 'CN', '2.5.4.5': 'serialNumber', '2.5.4.6': 'C', '2.5.4.7': 'L', '2.5.4.8': 'ST', '2.5.4.10': 'O', '2.5.4.11': 'OU', '2.5.4.46': 'dnQualifier',
  '0.9.2342.19200300.100.1.25': 'DC', '0.9.2342.19200300.100.1.1': 'UID',
}
export const SERIAL_NUMBER = '2.5.4.5'
export const COMMON_NAME = '2.5.4.3'

/** The relative names of a Name in the order in which they are written; throws DerError. */
export function relativeNames(name: Der): Attribute[][] {
  return sequence(name).map((set) => {
    const attributes = children(expectTag(set, TAG.set)).map((attribute) => {
      const [type, value, ...rest] = sequence(attribute)
      if (value === undefined || rest.length > 0) throw new DerError('attribute of a name is not a type and a value')
      return { type: oid(type), tag: value.tag, value: value.content }
    })
    if (attributes.length === 0) throw new DerError('empty relative name')
    return attributes
  })
}

/**
 * The name in the form in which two names are compared (RFC 5280 7.1, as OpenSSL does it): in UTF8String, PrintableString
 * and IA5String ASCII case and runs of white space don't count, nor which of the three it is; everything else is by bytes.
 */
export function canonicalName(names: Attribute[][]): string {
  return JSON.stringify(names.map((attributes) => attributes.map(({ type, tag, value }) => {
    const text = stringOf(tag, value)
    if (text === undefined) return [type, tag, Buffer.from(value).toString('hex')]
    return [type, text.replace(/[A-Z]+/g, (upper) => upper.toLowerCase()).replace(/[ \t-\r]+/g, ' ').replace(/^ | $/g, '')]
  })))
}

/** RFC 4514: the most specific part first, special characters escaped. */
export function nameText(names: Attribute[][]): string {
  return names.toReversed().map((attributes) => attributes.map(attributeText).join('+')).join(',')
}

function attributeText({ type, tag, value }: Attribute): string {
  const label = SHORT[type] ?? type
  const text = stringOf(tag, value)
  if (text === undefined) return `${label}=#${Buffer.from(value).toString('hex')}`
  const escaped = text.replace(/["+,;<>\\]/g, '\\$&').replace(/^[ #]/, '\\$&').replace(/(?<=.) $/, '\\ ')
    .replace(/[\p{Cc}\p{Cf}]/gu, (char) => [...Buffer.from(char)].map((byte) => `\\${byte.toString(16).padStart(2, '0')}`).join(''))
  return `${label}=${escaped}`
}

const strict = new TextDecoder('utf-8', { fatal: true })

function stringOf(tag: number, value: Uint8Array): string | undefined {
  try {
    if (tag === TAG.utf8) return strict.decode(value)
  } catch {
    return undefined // Not UTF-8: shown as hex, as RFC 4514 does with what it cannot write.
  }
  if (tag === TAG.printable || tag === TAG.ia5) return value.every((byte) => byte < 0x80) ? Buffer.from(value).toString('latin1') : undefined
  return undefined
}

/**
 * The text of the one attribute of this type, or undefined when there is none, more than one, or one that cannot name
 * anything: empty, over 128 characters, or with characters that people cannot see (two devices would look like one).
 */
export function soleText(names: Attribute[][], type: string): string | undefined {
  const found = names.flat().filter((attribute) => attribute.type === type)
  const only = found[0]
  if (found.length !== 1 || only === undefined) return undefined
  const text = stringOf(only.tag, only.value)
  return text !== undefined && text.length <= 128 && /^[^\p{C}\p{Z}](?:[^\p{C}\p{Z}]| (?! ))*$/u.test(text) && !text.endsWith(' ') ? text : undefined
}
