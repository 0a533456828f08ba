'use strict'
// Finds the function's handler.

const fs = require('fs')
const path = require('path')
const { pathToFileURL } = require('url')
const { typed } = require('./errors')

// load resolves to the handler that name ("folder/file.export.inner") means in
// the folder root.
async function load (root, name) {
  if (name.includes('..')) {
    throw typed('Runtime.MalformedHandlerName', `'${name}' is not a valid handler name. Use absolute paths when specifying root directories in handler names.`)
  }
  const slash = name.lastIndexOf('/') + 1
  const folder = name.slice(0, slash)
  const dot = name.indexOf('.', slash)
  if (dot < 0) throw typed('Runtime.MalformedHandlerName', 'Bad handler')
  const file = name.slice(slash, dot)

  let module
  try {
    module = await open(root, folder, file)
  } catch (error) {
    if (error instanceof SyntaxError) throw typed('Runtime.UserCodeSyntaxError', String(error), error)
    // An ES module's missing import keeps its own code and type, as with the
    // service.
    if (error?.code === 'MODULE_NOT_FOUND') throw typed('Runtime.ImportModuleError', String(error), error)
    throw error
  }
  let handler = module
  for (const part of name.slice(dot + 1).split('.')) handler = handler?.[part]
  if (!handler) throw typed('Runtime.HandlerNotFound', `${name} is undefined or not exported`)
  if (typeof handler !== 'function') throw typed('Runtime.HandlerNotFound', `${name} is not a function`)
  return handler
}

// open tries the files in the service's order. What decides is whether a file
// is there; an error inside it is the function's.
async function open (root, folder, file) {
  const base = path.resolve(root, folder, file)
  if (isFile(base)) return require(base)
  const esm = isModulePackage(base)
  if (isFile(base + '.js')) {
    return esm ? import(pathToFileURL(base + '.js').href) : requireOrImport(base + '.js')
  }
  if (isFile(base + '.mjs')) return import(pathToFileURL(base + '.mjs').href)
  if (isFile(base + '.cjs')) return require(base + '.cjs')
  return requireOrImport(resolve(root, folder, file))
}

// resolve finds a folder with an index, or a package of node_modules or of a
// layer.
function resolve (root, folder, file) {
  try {
    return require.resolve('./' + path.posix.join(folder, file), { paths: [root] })
  } catch {
    return require.resolve(file, { paths: [root, path.join(root, folder)] })
  }
}

async function requireOrImport (file) {
  try {
    return require(file)
  } catch (error) {
    if (error.code !== 'ERR_REQUIRE_ESM' && error.code !== 'ERR_REQUIRE_ASYNC_MODULE') throw error
    return import(pathToFileURL(file).href)
  }
}

function isFile (name) {
  return fs.statSync(name, { throwIfNoEntry: false })?.isFile() ?? false
}

// isModulePackage tells whether the nearest package.json says "type":
// "module", which is what makes a .js file an ES module.
function isModulePackage (file) {
  for (let folder = path.dirname(file); ; folder = path.dirname(folder)) {
    let text
    try {
      text = fs.readFileSync(path.join(folder, 'package.json'), 'utf8')
    } catch {
      if (folder === path.dirname(folder) || folder.endsWith('/node_modules')) return false
      continue
    }
    try {
      return JSON.parse(text).type === 'module'
    } catch {
      return false
    }
  }
}

module.exports = { load }
