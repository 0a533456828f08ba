'use strict'
exports.handler = async (event) => ({ ok: event.a })
