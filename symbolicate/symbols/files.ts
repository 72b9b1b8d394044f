import { open, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'

/** Files of this machine, for commands that are given a path. */
const MAX_FILES = 100_000

/** A file itself, or what lies below a folder, in the order of names. */
export async function filesBelow(path: string): Promise<string[]> {
  if (!(await stat(path)).isDirectory()) return [path]
  const found = await readdir(path, { withFileTypes: true, recursive: true })
  return found.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name)).toSorted().slice(0, MAX_FILES)
}

/** The first KiB; less of a shorter file. */
export async function firstKilobyte(path: string): Promise<Buffer> {
  const handle = await open(path)
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(1024), 0, 1024, 0)
    return buffer.subarray(0, bytesRead)
  } finally {
    await handle.close()
  }
}
