import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** A secret that is made once and kept in the folder, readable by its owner only. */
export function keptSecret(data: string, name: string, make: () => string): string {
  mkdirSync(data, { recursive: true })
  const path = join(data, name)
  try {
    writeFileSync(path, make(), { mode: 0o600, flag: 'wx' })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
  return readFileSync(path, 'utf8').trim()
}
