#!/usr/bin/env node
/** The one door: each command is one file in the folder that it belongs to. */
import { Command } from 'commander'
import { registerStart } from './dashboard/cli/start.ts'
import { registerConfig } from './dashboard/cli/config.ts'
import { registerDashboard } from './dashboard/cli/dashboard.ts'
import { registerDemo } from './dashboard/cli/demo.ts'
import { registerIngest } from './dashboard/cli/ingest.ts'
import { registerMigrate } from './dashboard/cli/migrate.ts'
import { registerSymbolicate } from './dashboard/cli/symbolicate.ts'
import { registerAddAnchor } from './dashboard/cli/add-anchor.ts'
import { registerAdmission } from './dashboard/cli/admission.ts'
import { registerDeadLetters } from './dashboard/cli/dead-letters.ts'
import { registerDevice } from './dashboard/cli/device.ts'
import { registerInventory } from './dashboard/cli/inventory.ts'
import { registerRevoke } from './dashboard/cli/revoke.ts'
import { registerSweep } from './dashboard/cli/sweep.ts'
import { registerVerify } from './dashboard/cli/verify.ts'
import { registerHeartbeat } from './ingest/device/alive.ts'
import { registerCertCheck } from './ingest/device/cert-check.ts'
import { registerFleetInit } from './ingest/device/fleet-init.ts'
import { registerSend } from './ingest/device/send.ts'
import { registerExplain } from './symbolicate/explain.ts'
import { registerSymbols } from './symbolicate/symbols/commands.ts'

const program = new Command('overrun')
  .description('Signed crash telemetry for device fleets that notices attackers')
  .version('0.1.0')
  .showHelpAfterError('(see --help)')
  .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2))

registerDemo(program)
registerStart(program)
registerIngest(program)
registerSymbolicate(program)
registerDashboard(program)
registerMigrate(program)
registerConfig(program)
registerSend(program)
registerHeartbeat(program)
registerVerify(program)
registerExplain(program)
registerSymbols(program)
registerDeadLetters(program)
registerSweep(program)
const fleet = program.command('fleet').description('Certificates and anchors of a fleet')
registerFleetInit(fleet)
registerAddAnchor(fleet)
registerRevoke(fleet)
registerInventory(fleet)
registerAdmission(fleet)
registerDevice(program)
registerCertCheck(program.command('cert').description('Certificate chains of devices'))

await program.parseAsync()
