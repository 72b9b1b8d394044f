import { createPrivateKey, type KeyObject } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { InvalidArgumentError, type Command } from 'commander'
import { messageOf } from '../../infra/service/errors.ts'
import { DEFAULT_DATA, DEFAULT_INGEST_URL } from '../../infra/service/server-file.ts'
import { certificatesOf } from '../chain.ts'
import { takeCounter, type Counter } from './counter.ts'

/** Who signs, with which counters, and to whom it is sent: what the commands of a device have in common. */
export interface SignerOptions {
  device?: string; key?: string; cert?: string; url?: string; data: string
  bootcount?: number; seq?: number; repeat?: boolean; retries: number; timeout: number; json?: boolean
}
export interface Signer { key: KeyObject; chain: Uint8Array[]; counter: Counter }
/** Why a command ends, and with which code. */
export interface Ending { exit: number; reason: string }

export const signerOptions = (command: Command): Command => command
  .option('--device <dir>', 'folder of the device with chain.pem and key.pem, as `overrun fleet init` makes it')
  .option('--cert <file>', 'certificate chain in PEM, leaf first, instead of --device')
  .option('--key <file>', 'private key in PEM, instead of --device')
  .option('--url <url>', `where ingest listens (default: OVERRUN_INGEST_URL, then the running server of --data, then ${DEFAULT_INGEST_URL})`)
  .option('--data <dir>', 'data folder of a local server', DEFAULT_DATA)
  .option('--bootcount <n>', 'the boot (default: that of the last report)', uint)
  .option('--seq <n>', 'number of the report in that boot (default: the next)', uint)
  .option('--repeat', 'allow a bootcount and seq that were used before')
  .option('--retries <n>', 'attempts after the first', uint, 5)
  .option('--timeout <seconds>', 'for one attempt', uint, 60)
  .option('--json', 'print the answer as one line of JSON')

export async function openSigner(options: SignerOptions): Promise<Signer | Ending> {
  const keyPath = options.key ?? (options.device && join(options.device, 'key.pem'))
  const chainPath = options.cert ?? (options.device && join(options.device, 'chain.pem'))
  if (!keyPath || !chainPath) return { exit: 2, reason: 'who sends? Give --device DIR, or --cert and --key' }
  const files = attempt(() => ({ key: readFileSync(keyPath), chain: readFileSync(chainPath) }))
  if (typeof files === 'string') return { exit: 23, reason: files }
  const key = attempt(() => createPrivateKey(files.key))
  if (typeof key === 'string') return { exit: 20, reason: `${keyPath}: ${key}` }
  const chain = certificatesOf(files.chain.toString('latin1'))
  if (chain.length === 0) return { exit: 20, reason: `${chainPath}: no certificate in PEM` }
  const counter = await takeCounter(`${keyPath}.counter`, options, { repeat: options.repeat ?? false }).catch(messageOf)
  if (typeof counter === 'string') return { exit: 20, reason: counter }
  if (counter === null) return { exit: 21, reason: 'this bootcount and seq were used before; a report with them would be a conflict. Add --repeat to send it all the same' }
  return { key, chain, counter }
}

/** The value, or why there is none. */
export function attempt<T>(make: () => T): T | string {
  try {
    return make()
  } catch (error) {
    return messageOf(error)
  }
}

export function uint(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new InvalidArgumentError('a whole number is expected')
  return Number(text)
}
