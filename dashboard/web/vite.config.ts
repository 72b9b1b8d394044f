import react from '@vitejs/plugin-react'
import { defineConfig } from 'vite'

// No inline script or style may come out of this: the pages are served under `default-src 'self'`.
export default defineConfig({
  root: import.meta.dirname,
  plugins: [react()],
  build: { outDir: 'dist', emptyOutDir: true, assetsInlineLimit: 0, modulePreload: { polyfill: false }, target: 'es2022' },
})
