import { registerHooks } from 'node:module'

/**
 * Makes a process the next version: everything that imports the contract of the log gets next-contract.ts instead.
 * `NODE_OPTIONS=--import=.../next-version.ts overrun ingest`.
 */
const CONTRACT = new URL('../../ingest/contract.ts', import.meta.url).href
const NEXT = new URL('./next-contract.ts', import.meta.url).href

registerHooks({
  resolve(specifier, context, next) {
    const resolved = next(specifier, context)
    return resolved.url === CONTRACT && context.parentURL !== NEXT ? { ...resolved, url: NEXT } : resolved
  },
})
