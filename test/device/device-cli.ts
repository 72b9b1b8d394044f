import { Command } from 'commander'
import { registerHeartbeat } from '../../ingest/device/alive.ts'
import { registerCertCheck } from '../../ingest/device/cert-check.ts'
import { registerFleetInit } from '../../ingest/device/fleet-init.ts'
import { registerSend } from '../../ingest/device/send.ts'

/** The commands of this folder as a program: what overrun.ts registers, without the parts of the other folders. */
const program = new Command('overrun').exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2))
registerSend(program)
registerHeartbeat(program)
registerFleetInit(program.command('fleet'))
registerCertCheck(program.command('cert'))
await program.parseAsync()
