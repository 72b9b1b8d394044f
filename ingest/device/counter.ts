import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, rmdirSync, statSync, writeSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

/**
 * The counter of a device, in a file beside its key: `BOOTCOUNT SEQ`, the pair used last. It is moved on disk before a
 * report is signed, so a pair is never used for two dumps, whatever happens in between; a pair that was never sent is
 * no loss. A directory beside it is the lock (mkdir is atomic, for the shell signer too).
 */
export type Counter = { bootcount: number; seq: number }

const STALE_LOCK_MS = 10_000
const LOCK_TRIES = 200

/**
 * Takes the next pair, or the one that is asked for. Gives null when that pair is not after the last one, unless
 * `repeat` says that this is wanted: the server answers a repeated pair with "duplicate" or with a conflict.
 */
export async function takeCounter(file: string, asked: Partial<Counter>, { repeat = false } = {}): Promise<Counter | null> {
  await lock(`${file}.lock`)
  try {
    const last = readCounter(file)
    const bootcount = asked.bootcount ?? last?.bootcount ?? 1
    const seq = asked.seq ?? (last?.bootcount === bootcount ? last.seq + 1 : 0)
    const isNew = !last || bootcount > last.bootcount || (bootcount === last.bootcount && seq > last.seq)
    if (isNew) writeCounter(file, { bootcount, seq })
    return isNew || repeat ? { bootcount, seq } : null
  } finally {
    rmdirSync(`${file}.lock`)
  }
}

function readCounter(file: string): Counter | undefined {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
  const [, bootcount, seq] = /^(\d{1,15}) (\d{1,15})\n?$/.exec(text) ?? []
  if (bootcount === undefined || seq === undefined) throw new Error(`${file} holds no counter: it should be "BOOTCOUNT SEQ"`)
  return { bootcount: Number(bootcount), seq: Number(seq) }
}

function writeCounter(file: string, { bootcount, seq }: Counter): void {
  const fd = openSync(`${file}.new`, 'w', 0o600)
  writeSync(fd, `${bootcount} ${seq}\n`)
  fsyncSync(fd)
  closeSync(fd)
  renameSync(`${file}.new`, file)
}

async function lock(dir: string): Promise<void> {
  for (let tries = 0; ; tries++) {
    try {
      mkdirSync(dir)
      return
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
      if (tries === LOCK_TRIES) throw new Error(`${dir} stays locked: remove it if no other sender is running`, { cause: error })
    }
    if (Date.now() - (statSync(dir, { throwIfNoEntry: false })?.mtimeMs ?? Infinity) > STALE_LOCK_MS) rmdirSync(dir)
    else await sleep(25)
  }
}
