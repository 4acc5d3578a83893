// Package recipes is how banyan is put beside an nginx that is there already, as configuration files whose tests run
// them: nginx, php-fpm and the built banyan, a foreign PHP script, and what PHP saw before compared value by value with
// what it sees now. Each line that a recipe adds is taken away in turn, and the comparison has to notice.
//
// small.yaml is the smallest configuration that records a write and compares a state.
package recipes
