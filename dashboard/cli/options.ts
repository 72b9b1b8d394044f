import { InvalidArgumentError, type Command } from 'commander'
import { ConfigError, masked, type Loaded } from '../../infra/service/config.ts'
import { loadConfiguration, type Configuration, type ConfigurationSources } from '../configuration.ts'

/** What every command takes that runs a part or touches what the parts share. */
export interface ProcessOptions { config?: string; set: Record<string, string>; data?: string; logLevel?: string; json?: boolean }

export function addProcessOptions(command: Command): Command {
  return command
    .option('--config <file>', 'settings in YAML or JSON (default: OVERRUN_CONFIG)')
    .option('--set <path=value>', 'one setting, such as log.kafka.brokers=a:9092,b:9092; can be repeated', setting, {})
    .option('--data <directory>', 'folder of this process')
    .option('--log-level <level>', 'debug, info, warn or error; lines of JSON on standard error')
    .option('--json', 'print one line of JSON with the addresses when ready')
}

function setting(text: string, before: Record<string, string>): Record<string, string> {
  const [, path, value] = /^([^=]+)=(.*)$/s.exec(text) ?? []
  if (path === undefined || value === undefined) throw new InvalidArgumentError('path=value is expected')
  return { ...before, [path]: value }
}

export function portNumber(text: string): number {
  const port = Number(text)
  if (!Number.isInteger(port) || port < 0 || port > 65_535) throw new InvalidArgumentError('a port from 0 to 65535 is expected')
  return port
}

/** The configuration, or exit code 2 and every problem that it has. */
export function configurationOf(command: string, { config: file, set, data, logLevel }: ProcessOptions, more: Pick<ConfigurationSources, 'defaults' | 'options'> = {}): Loaded<Configuration> {
  const named = Object.entries({ data, logLevel, ...more.options }).filter(([, value]) => value !== undefined)
  try {
    return loadConfiguration({ file, defaults: more.defaults ?? {}, options: { ...set, ...Object.fromEntries(named) } })
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    console.error(error.problems.map((problem) => `overrun ${command}: ${problem}`).join('\n'))
    process.exit(2)
  }
}

/** For runProcess. */
export const configOf = (loaded: Loaded<Configuration>) => ({ value: loaded.value, masked: masked(loaded) })
