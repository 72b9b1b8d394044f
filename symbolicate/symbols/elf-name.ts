/**
 * An ELF file by its own SHA-256, where a dump names its build so (ESP-IDF: the first 9 digits unless configured longer) and
 * there is no build id. What waits for symbols and what arrives meet by one string, so such a name looks like a debug id;
 * since the dump has a prefix and the file the whole, a file answers to all prefixes that a dump may name.
 */
const SHORTEST = 8
const LONGEST = 64
const SCHEME = 'elf-sha256:'

/** Lower-case hex, 8 digits or more; null for what names no file. */
export function elfPrefix(sha256: string | null | undefined): string | null {
  return sha256 != null && sha256.length >= SHORTEST && sha256.length <= LONGEST && /^[0-9a-f]+$/.test(sha256) ? sha256 : null
}

/** `elf-sha256:1f2e3d4c5`, in the place of a debug id. */
export const elfName = (prefix: string): string => SCHEME + prefix

/** The prefix in such a name; null for a debug id. */
export const prefixIn = (name: string): string | null => (name.startsWith(SCHEME) ? elfPrefix(name.slice(SCHEME.length)) : null)

export const elfNames = (sha256: string): string[] => Array.from({ length: LONGEST - SHORTEST + 1 }, (_, index) => elfName(sha256.slice(0, SHORTEST + index)))
