import { open } from 'node:fs/promises'

/** A file survives a power cut only when the folder that names it is synced too. */
export async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
