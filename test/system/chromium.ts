import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { chromium, type BrowserContext } from 'playwright-core'

/** Debian's chromium with an empty profile; it talks to nobody but the page. */
const PATHS = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']

const found = PATHS.find((path) => existsSync(path))

/** For `describe.skipIf`: with CI=true nothing is skipped, and the start fails with the same words. */
export const needsChromium = { skip: found === undefined && process.env.CI !== 'true', note: found === undefined ? ' (no chromium, `sh infra/setup.sh test` installs it)' : '' }

export async function openBrowser(): Promise<{ context: BrowserContext; close(): Promise<void> }> {
  if (found === undefined) throw new Error('no chromium')
  const profile = mkdtempSync(join(tmpdir(), 'overrun-chromium-'))
  const context = await chromium.launchPersistentContext(profile, { executablePath: found, headless: true, args: FLAGS, viewport: { width: 1280, height: 900 }, colorScheme: 'light' })
  return {
    context,
    async close() {
      await context.close()
      rmSync(profile, { recursive: true, force: true })
    },
  }
}
