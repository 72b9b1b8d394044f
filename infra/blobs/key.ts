/**
 * Keys are made by us, so a wrong one is a mistake in the program and throws. The check is there for the day on which
 * somebody builds a key from what a device sent: no key leaves the store's folder, names a hidden file or needs quoting.
 */
const SEGMENT = /^[A-Za-z0-9_][A-Za-z0-9._=+@,-]*$/
const MAX_KEY_LENGTH = 512
const MAX_SEGMENT_LENGTH = 200

export function checkKey(key: string): void {
  if (key.length > MAX_KEY_LENGTH || !key.split('/').every(isSegment)) throw new TypeError(`blobs: not a key: ${JSON.stringify(key.slice(0, 80))}`)
}

/** A prefix is the beginning of a key, cut anywhere. */
export function checkPrefix(prefix: string): void {
  if (prefix !== '') checkKey(prefix.endsWith('/') ? `${prefix}_` : prefix)
}

const isSegment = (segment: string): boolean => segment.length <= MAX_SEGMENT_LENGTH && SEGMENT.test(segment)
