import { createRootRoute, createRoute, createRouter, retainSearchParams } from '@tanstack/react-router'
import { Shell } from './shell.tsx'
import { BucketPage, BUCKET_TABS, type BucketTab } from './pages/bucket.tsx'
import { BucketsPage } from './pages/buckets.tsx'
import { CampaignPage } from './pages/campaign.tsx'
import { CampaignsPage } from './pages/campaigns.tsx'
import { DevicePage } from './pages/device.tsx'
import { DevicesPage } from './pages/devices.tsx'
import { OverviewPage } from './pages/overview.tsx'
import { SettingsPage } from './pages/settings.tsx'
import { SymbolsPage } from './pages/symbols.tsx'

/** All state of a page is in its address, so that a link shows what its sender saw. */
export interface BucketsSearch { q?: string; sort?: string; kind?: string; evidence?: number; swversion?: string; cursor?: string }
export interface BucketSearch { tab?: BucketTab; crash?: string }
export interface DevicesSearch { q?: string; sort?: string; status?: string; cursor?: string }

const text = (value: unknown): string | undefined => (typeof value === 'string' && value !== '' ? value.slice(0, 512) : undefined)
const number = (value: unknown): number | undefined => (typeof value === 'number' && Number.isFinite(value) ? value : undefined)
const set = <T extends object>(search: T): T => Object.fromEntries(Object.entries(search).filter(([, value]) => value !== undefined)) as T

const root = createRootRoute({
  component: Shell,
  /** The fleet stays in the address from page to page; without one it is the server's default. */
  validateSearch: (search): { fleet?: string } => set({ fleet: text(search.fleet) } as { fleet?: string }),
  search: { middlewares: [retainSearchParams(['fleet'])] },
})
const routes = [
  createRoute({ getParentRoute: () => root, path: '/', component: OverviewPage }),
  createRoute({
    getParentRoute: () => root,
    path: '/buckets',
    component: BucketsPage,
    validateSearch: (search): BucketsSearch =>
      set({ q: text(search.q), sort: text(search.sort), kind: text(search.kind), evidence: number(search.evidence), swversion: text(search.swversion), cursor: text(search.cursor) } as BucketsSearch),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/buckets/$id',
    component: BucketPage,
    validateSearch: (search): BucketSearch => set({ tab: BUCKET_TABS.map(([name]) => name).find((name) => name === search.tab), crash: text(search.crash) } as BucketSearch),
  }),
  createRoute({ getParentRoute: () => root, path: '/campaigns', component: CampaignsPage }),
  createRoute({ getParentRoute: () => root, path: '/campaigns/$id', component: CampaignPage }),
  createRoute({
    getParentRoute: () => root,
    path: '/devices',
    component: DevicesPage,
    validateSearch: (search): DevicesSearch => set({ q: text(search.q), sort: text(search.sort), status: text(search.status), cursor: text(search.cursor) } as DevicesSearch),
  }),
  createRoute({ getParentRoute: () => root, path: '/devices/$id', component: DevicePage }),
  createRoute({ getParentRoute: () => root, path: '/symbols', component: SymbolsPage }),
  createRoute({ getParentRoute: () => root, path: '/settings', component: SettingsPage }),
] as const

export const router = createRouter({ routeTree: root.addChildren([...routes]), defaultPreload: 'intent' })

declare module '@tanstack/react-router' {
  interface Register { router: typeof router }
}
