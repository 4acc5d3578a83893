package standin

import (
	"slices"
	"time"
)

// The game's settings, in the order of inc/config.php.

type kind struct {
	name                             string
	gold, wood, iron, strength, pace float64
}

var unitTypes = []kind{
	{"scout", 20, 10, 0, 4, 1},
	{"spear", 40, 30, 10, 10, 2},
	{"knight", 120, 20, 60, 18, 1},
	{"siege", 200, 150, 100, 25, 3},
}

// unitType is nil if there is no such type.
func unitType(name string) *kind {
	if i := slices.IndexFunc(unitTypes, func(k kind) bool { return k.name == name }); i >= 0 {
		return &unitTypes[i]
	}
	return nil
}

var (
	goods       = []string{"gold", "wood", "iron"}
	stances     = []string{"hold", "attack", "flee"}
	relations   = []string{"war", "peace", "alliance"}
	terrainGood = map[string]string{"plain": "gold", "forest": "wood", "hill": "iron"}
)

const (
	maxUnits    = 60
	maxOffers   = 5
	maxLevel    = 10
	maxDistance = 12
	tradeTime   = 600 * time.Second
)
