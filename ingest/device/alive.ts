import type { Command } from 'commander'
import { findIngest } from '../../infra/service/server-file.ts'
import { fail, tell } from './answer.ts'
import { sendPatiently } from './post.ts'
import { signHeartbeat } from './sign.ts'
import { openSigner, signerOptions, uint, type SignerOptions } from './signer.ts'

/** `overrun heartbeat`: says that a device is alive and on which version. Exit codes are those of `overrun send`. */
type AliveOptions = SignerOptions & { swname?: string; swversion?: string; hwmodel?: string; svn?: number; uptime?: number }

export function registerHeartbeat(program: Command): void {
  signerOptions(program.command('heartbeat'))
    .description('Sign and send a heartbeat: this device is alive, on this version')
    .option('--swname <name>', 'name of the firmware')
    .option('--swversion <version>', 'version of the firmware')
    .option('--hwmodel <model>', 'hardware model')
    .option('--svn <n>', 'security version', uint)
    .option('--uptime <seconds>', 'uptime', uint)
    .action(async (options: AliveOptions) => {
      process.exitCode = await heartbeat(options)
    })
}

async function heartbeat(options: AliveOptions): Promise<number> {
  const signer = await openSigner(options)
  if ('exit' in signer) return fail('heartbeat', signer.exit, signer.reason)
  const { counter, ...by } = signer
  const { swname, swversion, hwmodel, svn, uptime } = options
  const manifest = signHeartbeat({ ...by, claims: { ...counter, uptimeSeconds: uptime, swname, swversion, hwmodel, svn } })
  const posted = await sendPatiently({ method: 'POST', url: new URL('/v1/heartbeats', findIngest(options)).href, headers: { 'content-type': 'application/cose' }, body: manifest }, {
    retries: options.retries, timeoutMs: options.timeout * 1000, onRetry: (why, waitMs) => console.error(`heartbeat: ${why}; again in ${(waitMs / 1000).toFixed(1)} s`),
  })
  return tell('heartbeat', posted, options.json ?? false)
}
