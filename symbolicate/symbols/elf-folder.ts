import { createHash } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { basename } from 'node:path'
import { crc32 } from 'node:zlib'
import { InputError } from '../reader.ts'
import type { Located } from '../sandbox/wire.ts'
import { elfPrefix } from './elf-name.ts'
import { openElf } from './elf/elf.ts'
import { buildIdOf, debugAltLink, debugIdOfBuild, debugIdOfCode, debugLink } from './elf/identity.ts'
import type { ModuleIdentity } from './source.ts'

/**
 * The ELF files of a folder, by all that a dump may name a build by, and which of them belong together:
 *
 *   the same build id                     a stripped program, its debug file (.build-id/ab/cdef.debug, or any name)
 *   .gnu_debuglink                        a file of that name whose CRC-32 is the one that is said
 *   .gnu_debugaltlink                     the file with that build id, which dwz took out of several
 *   NAME.dwp beside NAME, and *.dwo       split DWARF
 *
 * Firmware whose dump names no build at all gets the only program in the folder: whoever gave it meant it. What a file is, is
 * read here, in the command's own process: headers, notes and links of files of this machine; the rest is for a parser's child.
 */
export interface ElfFolder {
  /** The files to prepare as one, the first of them the module's own. */
  find(module: ModuleIdentity): Promise<readonly string[] | Extract<Located, { reason: string }>>
}

interface ElfFile { path: string; sha256: string; crc: number; debugId: string; buildId: string | null; link: { name: string; crc: number } | null; altLink: string | null }

const MOST_BYTES = 256 * 2 ** 20
const MOST_PARTS = 512
const SPLIT = /\.dw[op]$/

export function createElfFolder(paths: readonly string[]): ElfFolder {
  let indexed: Promise<ElfFile[]> | null = null

  async function find({ debugFile, debugId, elfSha256, linked }: ModuleIdentity): ReturnType<ElfFolder['find']> {
    const prefix = elfPrefix(elfSha256)
    const named = prefix !== null || debugId !== null
    // A chip's ROM is a program of its own.
    if (!named && (linked !== true || debugFile?.endsWith('-rom'))) return { status: 'no-id', reason: 'the dump names no debug id for this module' }
    const files = await (indexed ??= readAll(paths.filter((path) => !SPLIT.test(path))))
    const fitting = prefix !== null ? files.filter(({ sha256 }) => sha256.startsWith(prefix)) : debugId !== null ? files.filter((file) => file.debugId === debugId.toUpperCase()) : files
    const what = prefix !== null ? `an ELF file whose SHA-256 begins with ${prefix}` : debugId !== null ? `${debugFile === null ? '' : `${basename(debugFile)} `}${debugId}` : 'firmware that its dump does not name'
    const [first] = fitting
    if (first === undefined) return { status: 'missing', reason: `no symbols for ${what}` }
    const isOneBuild = fitting.every(({ sha256, buildId }) => sha256 === first.sha256 || (prefix === null && buildId !== null && buildId === first.buildId))
    if (!isOneBuild) return { status: 'ambiguous', reason: `${fitting.length} files fit ${what}: ${fitting.slice(0, 3).map(({ path }) => basename(path)).join(', ')}` }
    return within(withParts(first, files))
  }

  function withParts(first: ElfFile, files: readonly ElfFile[]): string[] {
    const found = new Set([first])
    for (const file of found) {
      for (const other of files) {
        const sameBuild = other.buildId !== null && (other.buildId === file.buildId || other.buildId === file.altLink)
        if (sameBuild || (file.link !== null && basename(other.path) === file.link.name && other.crc === file.link.crc)) found.add(other)
      }
    }
    const own = [...found].map(({ path }) => path)
    const packages = paths.filter((path) => own.some((one) => path === `${one}.dwp`))
    return [...own, ...(packages.length > 0 ? packages : paths.filter((path) => path.endsWith('.dwo')))].slice(0, MOST_PARTS)
  }

  return { find }
}

/** As many as a parser's child takes in one piece. */
async function within(paths: readonly string[]): Promise<string[]> {
  const taken: string[] = []
  let size = 0
  for (const path of paths) {
    size += (await stat(path)).size
    if (taken.length === 0 || size <= MOST_BYTES) taken.push(path)
  }
  return taken
}

async function readAll(paths: readonly string[]): Promise<ElfFile[]> {
  const files: ElfFile[] = []
  for (const path of paths) {
    if ((await stat(path)).size > MOST_BYTES) continue
    const file = identify(path, await readFile(path))
    if (file !== null && !files.some(({ sha256 }) => sha256 === file.sha256)) files.push(file)
  }
  return files
}

/** null for what is no program, or damaged. */
function identify(path: string, bytes: Uint8Array): ElfFile | null {
  try {
    const image = openElf(bytes)
    const buildId = buildIdOf(image)
    const debugId = buildId === null ? debugIdOfCode(image) : debugIdOfBuild(buildId)
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    return { path, sha256, crc: crc32(bytes), debugId: debugId ?? '', buildId, link: debugLink(image), altLink: debugAltLink(image)?.buildId ?? null }
  } catch (error) {
    if (error instanceof InputError) return null
    throw error
  }
}
