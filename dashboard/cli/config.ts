import type { Command } from 'commander'
import { settingsOf, shown, type Loaded, type Setting } from '../../infra/service/config.ts'
import { configurationSchema, type Configuration } from '../configuration.ts'
import { addProcessOptions, configurationOf, type ProcessOptions } from './options.ts'

/**
 * `overrun config`: the configuration that a process would have here, secrets masked, and where each value comes from.
 * `--check` says only whether it is usable; `--reference` prints the page of all settings, infra/configuration.md.
 * Exit codes: 0, 2 when it is not usable.
 */
export function registerConfig(program: Command): void {
  addProcessOptions(program.command('config'))
    .description('Show the configuration and where each value comes from')
    .option('--check', 'only say whether it is usable')
    .option('--reference', 'print the page of all settings in Markdown')
    .action((options: ProcessOptions & { check?: boolean; reference?: boolean }) => {
      if (options.reference) return console.log(referencePage().trimEnd())
      const loaded = configurationOf('config', options)
      if (options.check) return console.log(options.json ? '{"usable":true}' : 'usable')
      return console.log(options.json ? JSON.stringify({ settings: rowsOf(loaded) }) : tableOf(loaded))
    })
}

const rowsOf = ({ value, settings, origins }: Loaded<Configuration>) => settings
  .map((setting) => ({ path: setting.path, value: shown(value, setting.path, setting), origin: origins.get(setting.path) ?? 'default' }))
  .filter((row) => row.value !== undefined)

function tableOf(loaded: Loaded<Configuration>): string {
  const rows = rowsOf(loaded).map(({ path, value, origin }) => ({ path, text: JSON.stringify(value), origin }))
  const width = (of: (row: typeof rows[number]) => string) => Math.min(48, Math.max(...rows.map((row) => of(row).length)))
  const [paths, values] = [width(({ path }) => path), width(({ text }) => text)]
  return rows.map(({ path, text, origin }) => `${path.padEnd(paths)}  ${text.padEnd(values)}  ${origin}`).join('\n')
}

/** Made from the schemas, so that it can't say anything else than they do; a test holds the file to it. */
export function referencePage(): string {
  const settings = settingsOf(configurationSchema)
  const sections = Map.groupBy(settings, ({ path }) => (path.includes('.') ? path.slice(0, path.indexOf('.')) : ''))
  const pages = [...sections].map(([section, rows]) => `${section === '' ? '' : `## ${section}\n\n`}| setting | environment | default | |\n|---|---|---|---|\n${rows.map(rowOf).join('\n')}\n`)
  return `${HEAD}\n${pages.join('\n')}`
}

const HEAD = `# Every setting

Made by \`overrun config --reference\`; sizes are in bytes, times in milliseconds. From weakest to strongest: the defaults
here, a YAML or JSON file (\`--config FILE\` or OVERRUN_CONFIG), the environment, the command line (\`--set path=value\`).
In the environment lists are separated by commas, and what is marked as a secret may come from a file that the same name
with \`_FILE\` at its end names. A name that is not here stops the start. \`overrun config\` shows what is in effect and why.

\`log.kafka\`, \`blobs.s3\` and \`clickhouse.server\` make the parts real: without them the log and the blobs are folders and the
engine is a child process. One file does for all processes.
`

function rowOf({ path, env, default: value, description, secret, words }: Setting): string {
  const said = value === undefined || value === '' ? '' : Array.isArray(value) ? value.join(',') : typeof value === 'number' ? value.toLocaleString('en-US') : String(value)
  const notes = [description, words.length > 0 ? words.map((word) => `\`${word}\``).join(', ') : '', secret ? 'Secret' : ''].filter((note) => note !== '')
  return `| \`${path}\` | ${env} | ${said} | ${notes.join('. ')} |`
}
