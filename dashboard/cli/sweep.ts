import type { Command } from 'commander'
import { sweptSchema } from '../api/upkeep-contract.ts'
import { connectServer, ending, serverOptions, type ServerOptions } from './server-client.ts'

/** `overrun sweep`: what the workers do every few hours, now; or what they would do. */
export function registerSweep(program: Command): void {
  serverOptions(program.command('sweep'))
    .description('Remove from the archive what no crash names, and dumps past their age')
    .option('--dry-run', 'only say what would go')
    .option('--json', 'print one line of JSON')
    .action(ending('sweep', async ({ dryRun = false, json, ...options }: ServerOptions & { dryRun?: boolean; json?: boolean }) => {
      const swept = await connectServer(options).post('/sweep', { dry_run: dryRun }, sweptSchema)
      if (json) {
        console.log(JSON.stringify(swept))
        return
      }
      const { objects, orphans, aged, waiting, written_until } = swept
      if (dryRun) for (const key of [...orphans.keys, ...aged.keys]) console.log(key)
      console.log(`${objects} objects. ${dryRun ? 'Would go' : 'Gone'}: ${orphans.objects} that no crash names (${orphans.bytes} bytes), ${aged.objects} past their age (${aged.bytes} bytes).`)
      if (waiting > 0) console.log(`${waiting} more wait until the log is written beyond them; it is written until ${written_until}.`)
    }))
}
